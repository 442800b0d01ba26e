package labcloud

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"hash/crc64"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// Putting blobs: in one piece, as blocks and a list of them, and their
// metadata and headers.

func metaHeaders(r *http.Request) map[string]string {
	out := map[string]string{}
	for k, v := range r.Header {
		if name, found := strings.CutPrefix(strings.ToLower(k), "x-ms-meta-"); found {
			out[name] = v[0]
		}
	}
	return out
}

func writeMeta(w http.ResponseWriter, m map[string]string) {
	for k, v := range m {
		w.Header().Set("x-ms-meta-"+k, v)
	}
}

// blobHeaders are the content headers that a put sets.
func blobHeaders(r *http.Request) map[string]string {
	out := map[string]string{"Content-Type": "application/octet-stream"}
	for from, to := range map[string]string{"x-ms-blob-content-type": "Content-Type", "x-ms-blob-content-md5": "Content-MD5", "x-ms-blob-cache-control": "Cache-Control", "x-ms-blob-content-encoding": "Content-Encoding", "x-ms-blob-content-language": "Content-Language", "x-ms-blob-content-disposition": "Content-Disposition"} {
		if v := r.Header.Get(from); v != "" {
			out[to] = v
		}
	}
	return out
}

var crcTable = crc64.MakeTable(0x9A6C9329AC4BC9B5)

// receive writes a body to a file and checks it against the hashes sent.
func (s *Server) receive(r *http.Request, account string, limit int64) (*blobPart, string, *blobError) {
	s.world.Lock()
	dir, err := s.dir("blobs", account)
	s.world.Unlock()
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	internal := func(err error) (*blobPart, string, *blobError) {
		return nil, "", &blobError{http.StatusInternalServerError, "InternalError", err.Error()}
	}
	if err != nil {
		return internal(err)
	}
	f, err := os.CreateTemp(dir, "b-*")
	if err != nil {
		return internal(err)
	}
	sum, crc := md5.New(), crc64.New(crcTable)
	n, err := io.Copy(io.MultiWriter(f, sum, crc), io.LimitReader(r.Body, limit+1))
	if e := f.Close(); err == nil {
		err = e
	}
	md := base64.StdEncoding.EncodeToString(sum.Sum(nil))
	drop := func(e *blobError) (*blobPart, string, *blobError) {
		os.Remove(f.Name())
		return nil, "", e
	}
	switch want := r.Header.Get("Content-MD5"); {
	case err != nil:
		return drop(&blobError{http.StatusBadRequest, "InvalidInput", err.Error()})
	case n > limit:
		return drop(&blobError{http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit."})
	case r.ContentLength >= 0 && n != r.ContentLength:
		return drop(&blobError{http.StatusBadRequest, "InvalidInput", "The body is shorter than its Content-Length."})
	case want != "" && want != md:
		return drop(&blobError{http.StatusBadRequest, "Md5Mismatch", "The MD5 value specified in the request did not match with the MD5 value calculated by the server."})
	}
	if want := r.Header.Get("x-ms-content-crc64"); want != "" {
		v := crc.Sum64()
		le := make([]byte, 8)
		for i := range le {
			le[i] = byte(v >> (8 * i))
		}
		if base64.StdEncoding.EncodeToString(le) != want {
			return drop(&blobError{http.StatusBadRequest, "Crc64Mismatch", "The CRC64 value specified in the request did not match with the CRC64 value calculated by the server."})
		}
	}
	return &blobPart{File: f.Name(), Size: n}, md, nil
}

// condition checks If-Match and If-None-Match.
func condition(r *http.Request, b *blobItem) *blobError {
	etag := ""
	if b != nil {
		etag = b.ETag
	}
	if v := r.Header.Get("If-None-Match"); v != "" && (v == "*" && b != nil || v == etag) {
		if r.Method == http.MethodPut {
			if v == "*" {
				return &blobError{http.StatusConflict, "BlobAlreadyExists", "The specified blob already exists."}
			}
			return &blobError{http.StatusPreconditionFailed, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."}
		}
		return &blobError{http.StatusNotModified, "ConditionNotMet", ""}
	}
	if v := r.Header.Get("If-Match"); v != "" && (b == nil || v != "*" && v != etag) {
		return &blobError{http.StatusPreconditionFailed, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."}
	}
	return nil
}

func (s *Server) putBlobCall(w http.ResponseWriter, r *http.Request, account, container, name string) *blobError {
	comp := r.URL.Query().Get("comp")
	find := func() (*blobContainer, *blobError) {
		if a := s.st.Accounts[account]; a != nil && a.Containers[container] != nil {
			return a.Containers[container], nil
		}
		return nil, noContainer()
	}
	s.world.Lock()
	_, missing := find()
	s.world.Unlock()
	if missing != nil {
		return missing
	}
	var part *blobPart
	var sum string
	var blocks []string
	switch comp {
	case "":
		if !strings.EqualFold(r.Header.Get("x-ms-blob-type"), "BlockBlob") {
			return &blobError{http.StatusBadRequest, "InvalidHeaderValue", "x-ms-blob-type must be BlockBlob."}
		}
		fallthrough
	case "block":
		var e *blobError
		if part, sum, e = s.receive(r, account, 4000<<20); e != nil {
			return e
		}
	case "blocklist":
		var l struct {
			Items []struct {
				XMLName xml.Name
				ID      string `xml:",chardata"`
			} `xml:",any"`
		}
		if err := xml.NewDecoder(io.LimitReader(r.Body, 8<<20)).Decode(&l); err != nil {
			return &blobError{http.StatusBadRequest, "InvalidXmlDocument", "XML specified is not syntactically valid."}
		}
		for _, i := range l.Items {
			blocks = append(blocks, i.ID)
		}
	}
	s.world.Lock()
	defer s.world.Unlock()
	defer s.saveIfDirty()
	c, missing := find()
	if missing != nil {
		return missing
	}
	old := c.Blobs[name]
	if e := condition(r, old); e != nil && comp != "block" {
		if part != nil {
			os.Remove(part.File)
		}
		return e
	}
	now := s.cfg.Now().UTC()
	item := &blobItem{ETag: `"0x` + strings.ToUpper(newGUID()[:8]) + `"`, Created: now, Modified: now, Headers: blobHeaders(r), Meta: metaHeaders(r)}
	status := http.StatusCreated
	s.dirty = true
	switch comp {
	case "":
		item.blobPart = *part
		if item.Headers["Content-MD5"] == "" {
			item.Headers["Content-MD5"] = sum
		}
		if t := r.Header.Get("Content-Type"); t != "" && r.Header.Get("x-ms-blob-content-type") == "" {
			item.Headers["Content-Type"] = t
		}
		w.Header().Set("Content-MD5", sum)
	case "block":
		id := r.URL.Query().Get("blockid")
		if _, err := base64.StdEncoding.DecodeString(id); err != nil || id == "" {
			os.Remove(part.File)
			return &blobError{http.StatusBadRequest, "InvalidQueryParameterValue", "The block ID must be Base64."}
		}
		if c.Blocks[name] == nil {
			c.Blocks[name] = map[string]*blobPart{}
		}
		if o := c.Blocks[name][id]; o != nil {
			os.Remove(o.File)
		}
		c.Blocks[name][id] = part
		w.Header().Set("Content-MD5", sum)
		w.WriteHeader(status)
		return nil
	case "blocklist":
		merged, e := s.commit(account, c, name, blocks)
		if e != nil {
			return e
		}
		item.blobPart, item.CommittedBlocks = *merged, blocks
	case "metadata", "properties":
		if old == nil {
			return noBlob()
		}
		n := *old
		n.ETag, n.Modified, status = item.ETag, now, http.StatusOK
		if comp == "metadata" {
			n.Meta = item.Meta
		} else {
			n.Headers = item.Headers
		}
		item, old = &n, nil
	default:
		return notSupported(r)
	}
	if old != nil {
		item.Created = old.Created
		os.Remove(old.File)
	}
	c.Blobs[name] = item
	w.Header().Set("ETag", item.ETag)
	w.Header().Set("Last-Modified", item.Modified.Format(http.TimeFormat))
	w.Header().Set("x-ms-request-server-encrypted", "true")
	w.WriteHeader(status)
	return nil
}

// commit joins uncommitted blocks to one file.
func (s *Server) commit(account string, c *blobContainer, name string, ids []string) (*blobPart, *blobError) {
	dir, err := s.dir("blobs", account)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, &blobError{http.StatusInternalServerError, "InternalError", err.Error()}
	}
	for _, id := range ids {
		if c.Blocks[name][id] == nil {
			return nil, &blobError{http.StatusBadRequest, "InvalidBlockList", "The specified block list is invalid."}
		}
	}
	f, err := os.CreateTemp(dir, "b-*")
	if err != nil {
		return nil, &blobError{http.StatusInternalServerError, "InternalError", err.Error()}
	}
	defer f.Close()
	part := &blobPart{File: f.Name()}
	for _, id := range ids {
		in, err := os.Open(c.Blocks[name][id].File)
		if err == nil {
			var n int64
			n, err = io.Copy(f, in)
			part.Size += n
			in.Close()
		}
		if err != nil {
			return nil, &blobError{http.StatusInternalServerError, "InternalError", err.Error()}
		}
	}
	for b := range maps.Values(c.Blocks[name]) {
		os.Remove(b.File)
	}
	delete(c.Blocks, name)
	return part, nil
}
