package labcloud

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The data plane of blob storage: <account>.<suffix>. Containers and block
// blobs: put in one piece or as blocks, get with ranges, list, delete. Content
// lies in files under the state directory, one for each blob and block.

// accountData is a storage account.
type accountData struct {
	Keys       [2]accountKey
	Created    time.Time
	Containers map[string]*blobContainer
}

type blobContainer struct {
	Created time.Time
	Meta    map[string]string
	Blobs   map[string]*blobItem
	Blocks  map[string]map[string]*blobPart // uncommitted, by blob and block ID
}

type blobItem struct {
	blobPart
	ETag            string
	Created         time.Time
	Modified        time.Time
	Headers         map[string]string // Content-Type and the like
	Meta            map[string]string
	CommittedBlocks []string
}

type blobPart struct {
	File string
	Size int64
}

func newAccount(now time.Time) *accountData {
	return &accountData{Keys: [2]accountKey{newAccountKey(now), newAccountKey(now)}, Created: now.UTC(), Containers: map[string]*blobContainer{}}
}

// container finds or makes one.
func (a *accountData) container(name string, now time.Time) *blobContainer {
	if a.Containers[name] == nil {
		a.Containers[name] = &blobContainer{Created: now.UTC(), Blobs: map[string]*blobItem{}, Blocks: map[string]map[string]*blobPart{}}
	}
	return a.Containers[name]
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// dropBlobs removes an account's files. It is called without s.world held.
func (s *Server) dropBlobs(account string) {
	s.world.Lock()
	dir, err := s.dir("blobs", account)
	s.world.Unlock()
	if err == nil {
		os.RemoveAll(dir)
	}
}

func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request, account string) {
	h := w.Header()
	h.Set("x-ms-request-id", newGUID())
	h.Set("x-ms-version", r.Header.Get("x-ms-version"))
	fail := func(e *blobError) {
		h.Set("x-ms-error-code", e.code)
		h.Set("Content-Type", "application/xml")
		w.WriteHeader(e.status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>", e.code, xmlText(e.text))
		}
	}
	container, blob, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q := r.URL.Query()
	right := map[string]string{http.MethodGet: "r", http.MethodHead: "r", http.MethodPut: "c", http.MethodDelete: "d"}[r.Method]
	switch comp := q.Get("comp"); {
	case container == "":
		right = "p"
	case comp == "list":
		right = "l"
	case r.Method == http.MethodPut && (comp == "block" || comp == "blocklist" || comp == "metadata" || comp == "properties"):
		right = "w"
	}
	s.world.Lock()
	a := s.st.Accounts[account]
	var refused *blobError
	switch {
	case a == nil:
		refused = &blobError{http.StatusNotFound, "ResourceNotFound", "The host " + r.Host + " does not exist."}
	case r.Header.Get("x-ms-version") == "" && q.Get("sv") == "":
		refused = &blobError{http.StatusBadRequest, "InvalidHeaderValue", "The header x-ms-version is missing."}
	default:
		refused = s.authorize(r, account, container, blob, right)
	}
	s.world.Unlock()
	if refused != nil {
		fail(refused)
		return
	}
	if f := s.statusFault(r); f != nil {
		h.Set("x-ms-error-code", f.Code)
		f.write(w, func(w http.ResponseWriter) {
			fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>", f.Code, xmlText(f.Message))
		})
		return
	}
	switch {
	case container == "":
		refused = s.listContainers(w, r, account)
	case blob == "":
		refused = s.containerCall(w, r, account, container)
	case r.Method == http.MethodPut:
		refused = s.putBlobCall(w, r, account, container, blob)
	default:
		refused = s.blobCall(w, r, account, container, blob)
	}
	if refused != nil {
		fail(refused)
	}
}

func xmlText(t string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(t))
	return b.String()
}

func noContainer() *blobError {
	return &blobError{http.StatusNotFound, "ContainerNotFound", "The specified container does not exist."}
}

func noBlob() *blobError {
	return &blobError{http.StatusNotFound, "BlobNotFound", "The specified blob does not exist."}
}

func notSupported(r *http.Request) *blobError {
	return &blobError{http.StatusBadRequest, "UnsupportedOperation", "Not supported: " + r.Method + " comp=" + r.URL.Query().Get("comp")}
}

func (s *Server) listContainers(w http.ResponseWriter, r *http.Request, account string) *blobError {
	if r.Method != http.MethodGet || r.URL.Query().Get("comp") != "list" {
		return notSupported(r)
	}
	s.world.Lock()
	defer s.world.Unlock()
	var b strings.Builder
	prefix := r.URL.Query().Get("prefix")
	for _, name := range sortedKeys(s.st.Accounts[account].Containers) {
		if strings.HasPrefix(name, prefix) {
			c := s.st.Accounts[account].Containers[name]
			fmt.Fprintf(&b, "<Container><Name>%s</Name><Properties><Last-Modified>%s</Last-Modified><Etag>\"0x1\"</Etag></Properties></Container>", xmlText(name), c.Created.Format(http.TimeFormat))
		}
	}
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://%s/\"><Prefix>%s</Prefix><Containers>%s</Containers><NextMarker/></EnumerationResults>", r.Host, xmlText(prefix), b.String())
	return nil
}

func (s *Server) containerCall(w http.ResponseWriter, r *http.Request, account, name string) *blobError {
	q := r.URL.Query()
	if q.Get("restype") != "container" {
		return notSupported(r)
	}
	s.world.Lock()
	defer s.world.Unlock()
	a := s.st.Accounts[account]
	if a == nil {
		return noContainer()
	}
	c := a.Containers[name]
	if c == nil && r.Method != http.MethodPut {
		return noContainer()
	}
	now := s.cfg.Now()
	switch comp := q.Get("comp"); {
	case r.Method == http.MethodPut && comp == "":
		if !containerNames.MatchString(name) {
			return &blobError{http.StatusBadRequest, "InvalidResourceName", "The specified resource name contains invalid characters."}
		}
		if r.Header.Get("x-ms-blob-public-access") != "" {
			return &blobError{http.StatusConflict, "PublicAccessNotPermitted", "Public access is not permitted on this storage account."}
		}
		if c != nil {
			return &blobError{http.StatusConflict, "ContainerAlreadyExists", "The specified container already exists."}
		}
		a.container(name, now).Meta = metaHeaders(r)
		s.dirty = true
		s.saveIfDirty()
		w.Header().Set("ETag", `"0x1"`)
		w.Header().Set("Last-Modified", now.UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusCreated)
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && comp == "":
		w.Header().Set("ETag", `"0x1"`)
		w.Header().Set("Last-Modified", c.Created.Format(http.TimeFormat))
		w.Header().Set("x-ms-lease-status", "unlocked")
		writeMeta(w, c.Meta)
		w.WriteHeader(http.StatusOK)
	case r.Method == http.MethodGet && comp == "list":
		s.listBlobs(w, r, c, name)
	case r.Method == http.MethodDelete && comp == "":
		for _, b := range c.Blobs {
			os.Remove(b.File)
		}
		delete(a.Containers, name)
		s.dirty = true
		s.saveIfDirty()
		w.WriteHeader(http.StatusAccepted)
	default:
		return notSupported(r)
	}
	return nil
}

func (s *Server) listBlobs(w http.ResponseWriter, r *http.Request, c *blobContainer, name string) {
	q := r.URL.Query()
	most, _ := strconv.Atoi(q.Get("maxresults"))
	if most <= 0 || most > 5000 {
		most = 5000
	}
	prefix, delimiter, marker := q.Get("prefix"), q.Get("delimiter"), q.Get("marker")
	var b strings.Builder
	n, next, last := 0, "", ""
	for _, k := range sortedKeys(c.Blobs) {
		if !strings.HasPrefix(k, prefix) || k < marker {
			continue
		}
		if delimiter != "" {
			if i := strings.Index(k[len(prefix):], delimiter); i >= 0 {
				if dir := k[:len(prefix)+i+len(delimiter)]; dir != last {
					last = dir
					fmt.Fprintf(&b, "<BlobPrefix><Name>%s</Name></BlobPrefix>", xmlText(dir))
				}
				continue
			}
		}
		if n == most {
			next = k
			break
		}
		n++
		i := c.Blobs[k]
		fmt.Fprintf(&b, "<Blob><Name>%s</Name><Properties><Creation-Time>%s</Creation-Time><Last-Modified>%s</Last-Modified><Etag>%s</Etag><Content-Length>%d</Content-Length><Content-Type>%s</Content-Type><Content-MD5>%s</Content-MD5><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState></Properties>",
			xmlText(k), i.Created.Format(http.TimeFormat), i.Modified.Format(http.TimeFormat), strings.Trim(i.ETag, `"`), i.Size, xmlText(i.Headers["Content-Type"]), xmlText(i.Headers["Content-MD5"]))
		if strings.Contains(q.Get("include"), "metadata") {
			b.WriteString("<Metadata>")
			for _, m := range sortedKeys(i.Meta) {
				fmt.Fprintf(&b, "<%s>%s</%s>", m, xmlText(i.Meta[m]), m)
			}
			b.WriteString("</Metadata>")
		}
		b.WriteString("</Blob>")
	}
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://%s/\" ContainerName=\"%s\"><Prefix>%s</Prefix><Marker>%s</Marker><MaxResults>%d</MaxResults><Blobs>%s</Blobs><NextMarker>%s</NextMarker></EnumerationResults>", r.Host, xmlText(name), xmlText(prefix), xmlText(marker), most, b.String(), xmlText(next))
}

// blobCall answers GET, HEAD and DELETE.
func (s *Server) blobCall(w http.ResponseWriter, r *http.Request, account, container, name string) *blobError {
	s.world.Lock()
	var b *blobItem
	var c *blobContainer
	if a := s.st.Accounts[account]; a != nil {
		c = a.Containers[container]
	}
	if c != nil {
		b = c.Blobs[name]
	}
	if b == nil || r.URL.Query().Get("comp") != "" || r.Method == http.MethodDelete {
		defer s.world.Unlock()
		switch {
		case c == nil:
			return noContainer()
		case b == nil:
			return noBlob()
		case r.URL.Query().Get("comp") != "":
			return notSupported(r)
		}
		if e := condition(r, b); e != nil {
			return e
		}
		os.Remove(b.File)
		delete(c.Blobs, name)
		s.dirty = true
		s.saveIfDirty()
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	item := *b
	f, err := os.Open(item.File)
	s.world.Unlock()
	if err != nil {
		return &blobError{http.StatusInternalServerError, "InternalError", err.Error()}
	}
	defer f.Close()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notSupported(r)
	}
	h := w.Header()
	for k, v := range item.Headers {
		h.Set(k, v)
	}
	h.Set("ETag", item.ETag)
	h.Set("x-ms-blob-type", "BlockBlob")
	h.Set("x-ms-creation-time", item.Created.Format(http.TimeFormat))
	h.Set("x-ms-lease-status", "unlocked")
	h.Set("x-ms-lease-state", "available")
	h.Set("x-ms-server-encrypted", "true")
	writeMeta(w, item.Meta)
	for q, name := range map[string]string{"rsct": "Content-Type", "rscd": "Content-Disposition", "rscc": "Cache-Control", "rsce": "Content-Encoding", "rscl": "Content-Language"} {
		if v := r.URL.Query().Get(q); v != "" {
			h.Set(name, v)
		}
	}
	if v := r.Header.Get("x-ms-range"); v != "" {
		r.Header.Set("Range", v)
	}
	if r.Header.Get("Range") != "" && h.Get("Content-MD5") != "" { // the hash of the whole
		h.Set("x-ms-blob-content-md5", h.Get("Content-MD5"))
		h.Del("Content-MD5")
	}
	counted := &recorder{ResponseWriter: w}
	http.ServeContent(counted, r, "", item.Modified, f)
	if r.Method == http.MethodGet {
		s.change(func() {
			for _, res := range s.ofType("Microsoft.Storage/storageAccounts") {
				if strings.EqualFold(res.Name, account) {
					s.count(res.key(), "Egress", float64(counted.bytes))
				}
			}
		})
	}
	return nil
}

// stored is how many bytes are in an account.
func (a *accountData) stored() int64 {
	var n int64
	for _, c := range a.Containers {
		for _, b := range slices.Collect(maps.Values(c.Blobs)) {
			n += b.Size
		}
	}
	return n
}
