package mp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
	"github.com/opencmg/opencmg/sitedb"
)

// clientFile serves the client's installation files, with ranges.
func (s *Server) clientFile(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	name := r.URL.Path[len(ccm.PathClient):]
	missing := opencmg.Errorf(opencmg.NotFound, "there is no such file")
	if s.c.ClientFiles == "" || !filepath.IsLocal(filepath.FromSlash(name)) || strings.Contains(name, "\\") {
		return missing
	}
	// The root keeps links from leading out of the folder.
	root, err := os.OpenRoot(s.c.ClientFiles)
	if err != nil {
		return fmt.Errorf("client files: %w", err)
	}
	defer root.Close()
	f, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		x.note("%v", err)
		return missing
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return missing
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, path.Base(name), info.ModTime(), f)
	return nil
}

// uploads keeps what clients send to ccm_incoming: one folder per client, files
// appear under their name only when they are complete.
type uploads struct {
	root *os.Root // nil: none are taken

	mu   sync.Mutex
	used map[opencmg.ClientID]int64 // bytes on disk and promised; guarded by mu
}

func (u *uploads) open(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return &opencmg.Error{Kind: opencmg.Invalid, Msg: "folder for uploads: " + err.Error(), Err: err}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return &opencmg.Error{Kind: opencmg.Invalid, Msg: "folder for uploads: " + err.Error(), Err: err}
	}
	u.root, u.used = root, map[opencmg.ClientID]int64{}
	// What a killed process left half-written is of no use.
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(name, partSuffix) {
			err = root.Remove(filepath.FromSlash(name))
		}
		return err
	})
}

const partSuffix = ".part"

var uploadName = regexp.MustCompile(`^[A-Za-z0-9{}_-][A-Za-z0-9{}._-]{0,127}$`)

// upload takes a body of any size within the client's quota, in bounded memory.
// A message is delivered from there like one of CCM_POST; any other file stays.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	if err := s.refuseBulk(x); err != nil {
		return err
	}
	if s.uploads.root == nil {
		x.refuse("refused: no folder for uploads is configured")
		return opencmg.Errorf(opencmg.NotFound, "this management point takes no uploads")
	}
	if t := r.Header.Get("BITS-Packet-Type"); t != "" {
		// Sessions and fragments of the BITS upload protocol are not offered;
		// one request carries the whole file.
		x.refuse("refused: BITS packet type %.40q", t)
		return opencmg.Errorf(opencmg.Invalid, "upload sessions are not offered: send the whole file in one request")
	}
	c, err := s.uploader(r, x)
	if err != nil {
		return err
	}
	name := r.URL.Path[len(ccm.PathIncoming):]
	if !uploadName.MatchString(name) || strings.HasSuffix(strings.ToLower(name), partSuffix) {
		x.refuse("refused: file name %.140q", name)
		return opencmg.Errorf(opencmg.Invalid, "the file name may have 128 letters, digits, and . _ - { }")
	}
	size, err := s.store(w, r, c.ID, name)
	if err != nil {
		if x.verdict == "" {
			x.refuse("refused: upload: %v", err)
		}
		return err
	}
	s.metrics.uploaded.Add(float64(size))
	s.log.Info("upload stored", "component", "MP_Incoming", "request_id", x.id, "client", string(c.ID), "file", name, "bytes", size)
	x.note("upload of %d bytes stored", size)
	if contentType := r.Header.Get("Content-Type"); strings.HasPrefix(strings.ToLower(contentType), "multipart/") {
		return s.deliverUpload(w, r, x, c, name, size, contentType)
	}
	w.Header().Set("Content-Length", "0")
	return nil
}

// uploader is the client that uploads: by identity, or by signed fields.
func (s *Server) uploader(r *http.Request, x *exchange) (sitedb.Client, error) {
	proved, err := s.headerProof(r, x)
	if err != nil {
		return sitedb.Client{}, err
	}
	if proved {
		return s.c.DB.Client(r.Context(), x.client)
	}
	if x.caller.Auth == opencmg.AuthNone {
		if x.verdict == "" {
			x.refuse("refused: an upload needs an identity")
		}
		return sitedb.Client{}, opencmg.Errorf(opencmg.Unauthorized, "an upload needs a token, a client certificate or signed header fields")
	}
	x.verdict = ""
	return s.registered(r.Context(), x)
}

// store writes the body beside its final name and renames it when it is on
// disk. The quota is promised before a byte is written.
func (s *Server) store(w http.ResponseWriter, r *http.Request, id opencmg.ClientID, name string) (size int64, err error) {
	dir := strings.TrimPrefix(string(id), "GUID:")
	if err := s.uploads.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return 0, storageError(err)
	}
	folder, err := s.uploads.root.OpenRoot(dir)
	if err != nil {
		return 0, storageError(err)
	}
	defer folder.Close()
	limit, release, err := s.uploads.reserve(folder, id, r.ContentLength, s.c.IncomingQuota)
	if err != nil {
		return 0, err
	}
	var replaced int64 // bytes of an older file of that name
	defer func() { release(size - replaced) }()

	part := name + "." + exchangeOf(r).id + partSuffix
	f, err := folder.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, storageError(err)
	}
	defer func() {
		f.Close()
		if err != nil {
			folder.Remove(part)
			size = 0
		}
	}()
	body := http.MaxBytesReader(w, r.Body, limit)
	rc := http.NewResponseController(w)
	buf := make([]byte, 64<<10)
	for {
		// A body that makes no progress ends; a long one may take its time.
		rc.SetReadDeadline(time.Now().Add(bodyTimeout))
		n, readErr := body.Read(buf)
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				return 0, storageError(err)
			}
			size += int64(n)
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			if _, ok := errors.AsType[*http.MaxBytesError](readErr); ok {
				return 0, errQuota
			}
			return 0, &opencmg.Error{Kind: opencmg.Invalid, Msg: "the upload ended early", Err: readErr}
		}
	}
	rc.SetReadDeadline(time.Time{})
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return 0, storageError(err)
	}
	old, statErr := folder.Stat(name)
	if err := folder.Rename(part, name); err != nil {
		return 0, storageError(err)
	}
	if statErr == nil {
		replaced = old.Size()
	}
	return size, nil
}

var errQuota = opencmg.Errorf(opencmg.TooLarge, "the client's quota for uploads is used up; they are taken away when they are processed")

func storageError(err error) error {
	return &opencmg.Error{Kind: opencmg.Unavailable, Msg: "the upload can not be stored now", Err: err}
}

// reserve promises the client room for length bytes, or for all that is left
// when the length is unknown, and returns how many it may send. release takes
// the promise back and counts what was stored instead.
func (u *uploads) reserve(folder *os.Root, id opencmg.ClientID, length, quota int64) (limit int64, release func(stored int64), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	used, ok := u.used[id]
	if !ok {
		if used, err = folderSize(folder); err != nil {
			return 0, nil, storageError(err)
		}
	}
	limit = length
	if length < 0 {
		limit = quota - used
	}
	if used+limit > quota || limit < 0 {
		return 0, nil, errQuota
	}
	u.used[id] = used + limit
	return limit, func(stored int64) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.used[id] += stored - limit
	}, nil
}

func folderSize(folder *os.Root) (size int64, err error) {
	err = fs.WalkDir(folder.FS(), ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// maxUploadedMessage bounds the message that is delivered from an upload; a
// longer one is refused, since its text would not fit.
const maxUploadedMessage = 32 << 20

// deliverUpload delivers an uploaded message and takes the file away.
func (s *Server) deliverUpload(w http.ResponseWriter, r *http.Request, x *exchange, c sitedb.Client, name string, size int64, contentType string) error {
	file := filepath.Join(strings.TrimPrefix(string(c.ID), "GUID:"), name)
	defer func() {
		if s.uploads.root.Remove(file) == nil {
			s.uploads.mu.Lock()
			s.uploads.used[c.ID] -= size
			s.uploads.mu.Unlock()
		}
	}()
	if size > maxUploadedMessage {
		x.refuse("refused: an uploaded message of %d bytes", size)
		return opencmg.Errorf(opencmg.TooLarge, "the message is longer than %d bytes", int64(maxUploadedMessage))
	}
	weight := min(4*size+64<<10, messageMemory)
	if err := s.memory.Acquire(r.Context(), weight); err != nil {
		return &opencmg.Error{Kind: opencmg.Unavailable, Msg: "too many messages at once", Err: err}
	}
	defer s.memory.Release(weight)
	body, err := s.uploads.root.ReadFile(file)
	if err != nil {
		return storageError(err)
	}
	contentType, reply, err := s.deliver(r.Context(), x, contentType, body)
	if err != nil {
		return err
	}
	writeReply(w, x, contentType, reply)
	return nil
}
