package opencmg_test

import (
	"strings"
	"testing"

	"github.com/opencmg/opencmg"
)

func TestURLMappingsAreChecked(t *testing.T) {
	for _, tt := range []struct{ doc, want string }{
		{`{"mappings":[{"role":"8","internal":["http://mp"]}]}`, ""},
		{`{"mappings":[{"role":"8","internal":["https://mp:8443/base"],"siteRole":true,"healthPath":"/livez"}]}`, ""},
		{`{"mappings":[{"role":"08","internal":["http://mp"]}]}`, "without leading zeros"},
		{`{"mappings":[{"role":"8","internal":[]}]}`, "at least one URL"},
		{`{"mappings":[{"role":"8","internal":["ftp://mp"]}]}`, "http:// or https://"},
		{`{"mappings":[{"role":"8","internal":["http://u:p@mp"]}]}`, "credentials"},
		{`{"mappings":[{"role":"8","internal":["http://mp","http://mp"]}]}`, "twice"},
		{`{"mappings":[{"role":"8","internal":["http://mp"]},{"role":"8","internal":["http://mp"]}]}`, "twice"},
		{`{"mappings":[{"role":"8","internal":["http://mp"],"prefix":"wiki"}]}`, "slash"},
		{`{"mappings":[{"role":"8","internal":["http://mp"],"hostHeader":"a\r\nX: y"}]}`, "hostHeader"},
		{`{"mappings":[{"role":"8","internal":["http://mp"],"healthPath":"/a b"}]}`, "healthPath"},
		{`{"mappings":[{"role":"8","internal":["http://mp"],"certificateRequired":true}]}`, "needs clientCertificate"},
		{`{"mappings":[{"role":"8","internal":["http://mp"],"siteRole":true,"caFile":"x"}]}`, "excludes"},
		{`{"mappings":[{"role":"8","internal":["http://mp"],"maxIdle":-1}]}`, "negative"},
		{`{"mappings":[{"role":"8","interal":["http://mp"]}]}`, "interal"},
		{`{`, "read URL mappings"},
	} {
		_, err := opencmg.ParseURLMappings([]byte(tt.doc))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.doc, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want an error with %q", tt.doc, err, tt.want)
		}
	}
}
