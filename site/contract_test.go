package site_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// A contract holds what goes over the wire to openapi.yaml: every body that the
// site took or gave in any test of this package.
type contract struct {
	next http.RoundTripper
	t    testing.TB
}

// CloseIdleConnections is for [http.Client.CloseIdleConnections].
func (c *contract) CloseIdleConnections() {
	c.next.(interface{ CloseIdleConnections() }).CloseIdleConnections()
}

// A describedOperation is an operation of openapi.yaml.
type describedOperation struct {
	key       string // such as GET Gateways/{id}
	path      *regexp.Regexp
	request   *jsonschema.Schema
	responses map[string]map[string]*jsonschema.Schema // by status and media type
}

var loadContract = sync.OnceValue(func() []describedOperation {
	t := &testing.T{} // description fails a test of its own
	doc := description(t)
	// A key that the description does not have must not come.
	for _, v := range doc["components"].(map[string]any)["schemas"].(map[string]any) {
		v.(map[string]any)["additionalProperties"] = false
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		panic(err)
	}
	if err := c.AddResource("openapi.json", parsed); err != nil {
		panic(err)
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	compile := func(pointer ...string) *jsonschema.Schema {
		at := "openapi.json#"
		for _, p := range pointer {
			at += "/" + strings.ReplaceAll(strings.ReplaceAll(escape.Replace(p), "{", "%7B"), "}", "%7D")
		}
		return c.MustCompile(at)
	}
	var list []describedOperation
	for path, item := range doc["paths"].(map[string]any) {
		for method, v := range item.(map[string]any) {
			op, ok := v.(map[string]any)
			if !ok {
				continue
			}
			d := describedOperation{
				key:       strings.ToUpper(method) + " " + strings.TrimPrefix(path, "/"),
				path:      regexp.MustCompile("^" + regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), `[^/]+`) + "$"),
				responses: map[string]map[string]*jsonschema.Schema{},
			}
			if op["requestBody"] != nil {
				d.request = compile("paths", path, method, "requestBody", "content", "application/json", "schema")
			}
			for status, v := range op["responses"].(map[string]any) {
				at := []string{"paths", path, method, "responses", status}
				if ref, ok := v.(map[string]any)["$ref"].(string); ok {
					at = strings.Split(strings.TrimPrefix(ref, "#/"), "/")
				}
				content, _ := lookUp(t, doc, v)["content"].(map[string]any)
				d.responses[status] = map[string]*jsonschema.Schema{}
				for media := range content {
					d.responses[status][media] = compile(append(at, "content", media, "schema")...)
				}
			}
			list = append(list, d)
		}
	}
	return list
})

func (c *contract) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	res, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(got))
	path, ok := strings.CutPrefix(r.URL.Path, strings.TrimSuffix(adminservice.BasePath, "/"))
	if !ok || strings.HasPrefix(path, "/SiteSystem/") {
		return res, nil
	}
	what := r.Method + " " + r.URL.Path + ": " + res.Status
	if id := res.Header.Get(opencmg.HeaderCorrelationID); id == "" {
		c.t.Errorf("%s: there is no correlation ID", what)
	}
	for _, d := range loadContract() {
		if m, _, _ := strings.Cut(d.key, " "); m != r.Method || !d.path.MatchString(path) {
			continue
		}
		c.check(&d, r, res, what, sent, got)
		return res, nil
	}
	if res.StatusCode < 400 && !strings.Contains(path, "(") {
		c.t.Errorf("%s: openapi.yaml does not describe it", what)
	}
	return res, nil
}

// check holds one exchange to its description.
func (c *contract) check(d *describedOperation, r *http.Request, res *http.Response, what string, sent, got []byte) {
	c.t.Helper()
	status := strconv.Itoa(res.StatusCode)
	contents, ok := d.responses[status]
	if !ok {
		if contents = d.responses["default"]; res.StatusCode < 400 {
			c.t.Errorf("%s: openapi.yaml does not know this answer", what)
			return
		}
	}
	if res.StatusCode < 400 && d.request != nil {
		valid(c.t, d.request, what+": request", sent)
	}
	media := res.Header.Get("Content-Type")
	if len(contents) == 0 {
		if len(got) > 0 {
			c.t.Errorf("%s: openapi.yaml knows no body, got %.200s", what, got)
		}
		return
	}
	schema, ok := contents[media]
	switch {
	case !ok:
		c.t.Errorf("%s: openapi.yaml does not know the media type %q", what, media)
	case media == "application/x-ndjson":
		for line := range bytes.Lines(got) {
			valid(c.t, schema, what, line)
		}
	case strings.HasSuffix(media, "json") && r.URL.Query().Get("$select") == "":
		valid(c.t, schema, what, got)
	}
}

func valid(t testing.TB, s *jsonschema.Schema, what string, body []byte) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = s.Validate(v)
	}
	if err != nil {
		t.Errorf("%s is not as openapi.yaml says: %v\n%.500s", what, err, body)
	}
}
