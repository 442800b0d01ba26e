package azure_test

import (
	"testing"

	"github.com/opencmg/opencmg/azure"
)

// FuzzParseError reads what a broken or hostile service answers.
func FuzzParseError(f *testing.F) {
	for _, s := range []string{
		`{"error":{"code":"A","message":"b","details":[{"code":"C"}],"innererror":{"code":"D"}}}`,
		`{"odata.error":{"code":"A","message":{"value":"b"}}}`,
		`{"status":"Failed","error":{"code":"A","message":"{\"error\":{\"code\":\"B\"}}"}}`,
		`{"properties":{"provisioningState":"Failed","error":{"code":"A"}}}`,
		`<?xml version="1.0"?><Error><Code>A</Code><Message>b</Message></Error>`,
		`{"error":"invalid_client"}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if ce := azure.ParseError(body); ce != nil {
			_ = ce.Error()
			if ce.Code == "" && ce.Message == "" && len(ce.Details) == 0 {
				t.Errorf("an empty error from %q", body)
			}
		}
	})
}

func TestParseErrorShapes(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"code":"A","message":" b ","target":"c"}}`:                                           "A: b (c)",
		`{"code":"A","message":"b"}`:                                                                    "A: b",
		`{"odata.error":{"code":"A","message":{"lang":"en","value":"b"}}}`:                              "A: b",
		`{"properties":{"error":{"code":"A","details":[{"code":"B","message":"c"}]}}}`:                  "A; B: c",
		`{"error":{"code":"A","message":"{\"status\":\"Failed\",\"error\":{\"code\":\"B\"}}"}}`:         "A; B",
		`<?xml version="1.0"?><Error><Code>A</Code><Message>b` + "\nRequestId:1" + `</Message></Error>`: "A: b",
	} {
		if ce := azure.ParseError([]byte(body)); ce == nil || ce.Error() != want {
			t.Errorf("%s: %v", body, ce)
		}
	}
	for _, body := range []string{``, `null`, `[]`, `{}`, `{"error":"invalid_client"}`, `{"error":null}`, `<html>`} {
		if ce := azure.ParseError([]byte(body)); ce != nil {
			t.Errorf("%s: %v", body, ce)
		}
	}
}

func TestMatchAction(t *testing.T) {
	for _, c := range []struct {
		pattern, action string
		want            bool
	}{
		{"*", "A/b/write", true}, {"A/b/write", "a/B/Write", true}, {"A/*", "A/b/write", true}, {"A/*/read", "A/b/write", false},
		{"*/write", "A/b/write", true}, {"A/*/c/*", "A/b/c/write", true}, {"A/*/d/*", "A/b/c/write", false}, {"A", "A/b", false}, {"AB*B", "AB", false},
	} {
		if got := azure.MatchAction(c.pattern, c.action); got != c.want {
			t.Errorf("%s on %s: %v", c.pattern, c.action, got)
		}
	}
}
