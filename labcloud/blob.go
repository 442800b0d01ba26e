package labcloud

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"hash/crc64"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
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
