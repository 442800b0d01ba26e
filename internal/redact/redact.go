// Package redact takes secrets out of text and JSON that leave a site, such as
// logs and configuration in a diagnosis archive.
//
// It knows secrets by their shape (private keys, tokens, signed addresses, keys
// of storage accounts, PFX files) and by the name in front of them (password=,
// "clientSecret":, OPENCMG_TOKEN=). It would rather take too much: what is left
// of a secret is its place. Certificates and the IDs of tokens stay, for they
// say what to look for.
package redact

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Mark stands where a secret was.
const Mark = "[redacted]"

// Text returns b without secrets. Beside what it knows by itself it takes out
// the literal texts in known, which should be longer than a word.
func Text(b []byte, known ...string) []byte {
	for _, k := range known {
		if k = strings.TrimSpace(k); k != "" {
			b = bytes.ReplaceAll(b, []byte(k), []byte(Mark))
		}
	}
	b = privateKey.ReplaceAllLiteral(b, []byte(Mark))
	// What is public may look like anything inside.
	return eachDER(b, scrub, func(found []byte) ([]byte, bool) { return found, public(found) })
}

func scrub(b []byte) []byte {
	for _, r := range rules {
		if r.pattern == derText {
			b = eachDER(b, slices.Clone, func([]byte) ([]byte, bool) { return []byte(Mark), true })
			continue
		}
		b = r.pattern.ReplaceAllFunc(b, func(found []byte) []byte { return r.replace(r.pattern, found) })
	}
	return b
}

// eachDER calls replace for each text that is base64 of DER, and between for
// what lies between those that replace wants to be replaced.
func eachDER(b []byte, between func([]byte) []byte, replace func(found []byte) ([]byte, bool)) []byte {
	var out []byte
	last := 0
	for at := 0; ; {
		m := derText.FindIndex(b[at:])
		if m == nil {
			return append(out, between(b[last:])...)
		}
		from := at + m[0]
		at = derEnd(b, from, at+m[1])
		if text, ok := replace(b[from:at]); ok {
			out = append(append(out, between(b[last:from])...), text...)
			last = at
		}
	}
}

// derEnd is where the text ends of which the first line is b[from:to]: all lines
// but the last are of one length, and only short ones are continued.
func derEnd(b []byte, from, to int) int {
	width := to - from
	if width > 80 {
		return to
	}
	for {
		m := nextLine.FindSubmatchIndex(b[to:min(len(b), to+width+32)])
		if m == nil {
			return to
		}
		n := m[3] - m[2]
		if n > width {
			return to
		}
		to += m[1]
		if n < width {
			return to
		}
	}
}

// JSON is Text for a JSON document, whose keys say which strings are secrets.
// What is no JSON is treated as text.
func JSON(b []byte, known ...string) []byte {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return Text(b, known...)
	}
	if _, err := d.Token(); err != io.EOF {
		return Text(b, known...)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if enc.Encode(value("", v, known)) != nil {
		return Text(b, known...)
	}
	return out.Bytes()
}

func value(name string, v any, known []string) any {
	switch v := v.(type) {
	case map[string]any:
		clean := make(map[string]any, len(v))
		for k, e := range v {
			clean[string(Text([]byte(k), known...))] = value(k, e, known)
		}
		return clean
	case []any:
		for i := range v {
			v[i] = value(name, v[i], known)
		}
		return v
	case string:
		if v != "" && secretName(name) && !harmless(name, v) {
			return Mark
		}
		return string(Text([]byte(v), known...))
	}
	return v
}

// A rule replaces what its pattern finds.
type rule struct {
	pattern *regexp.Regexp
	replace func(p *regexp.Regexp, found []byte) []byte
}

func whole(*regexp.Regexp, []byte) []byte { return []byte(Mark) }

// keeping keeps what template says, in the notation of regexp.Expand.
func keeping(template string) func(*regexp.Regexp, []byte) []byte {
	return func(p *regexp.Regexp, found []byte) []byte {
		return p.Expand(nil, []byte(template), found, p.FindSubmatchIndex(found))
	}
}

// In a text a line end may be written out as \n, as in JSON.
const (
	lineEnd    = `(?:\r?\n|\\r\\n|\\n)`
	secretWord = `password|passwd|passphrase|pwd|secret|token|apikey|api[_-]key|accesskey|access[_-]key|accountkey|account[_-]key|sharedkey|privatekey|private[_-]key|credential|authorization|cookie|connectionstring|connection[_-]string|pfx|regtoken|assertion`
)

var (
	privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`)
	// The first line of base64 of DER, and one that may follow it.
	derText  = regexp.MustCompile(`MI[A-Za-z0-9+/=_-]{46,}`)
	nextLine = regexp.MustCompile(`^` + lineEnd + `[ \t]*([A-Za-z0-9+/=]+)`)
)

var rules = []rule{
	// JWTs, join tokens, and whatever else is a JSON object in base64.
	{regexp.MustCompile(`eyJ[A-Za-z0-9_+/=-]{12,}(?:\.[A-Za-z0-9_=-]*)*`), whole},
	{regexp.MustCompile(`(?i)((?:proxy-)?authorization["']?\s*[:=]\s*["']?)[^\r\n"']+`), keeping("${1}" + Mark)},
	{regexp.MustCompile(`(?i)(\b(?:bearer|basic|sharedkey)\s+)[A-Za-z0-9._~+/=:-]{16,}`), keeping("${1}" + Mark)},
	{regexp.MustCompile(`(?i)(/regtoken:)[^\s"']+`), keeping("${1}" + Mark)},
	{regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s/"'<>]+@`), userInfo},
	{regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s/"'<>@:]*:[^\s"'<>]*@`), userInfo},
	{regexp.MustCompile(`(?i)((?:[?&;]|&amp;|\\u0026|%26|\b)(?:sig|signature|x-amz-signature|x-goog-signature|code|access_token|refresh_token|id_token)(?:=|%3d))[^&\s"'<>\\;]+`), keeping("${1}" + Mark)},
	// Secrets of app registrations, and the site's own: two texts of
	// crypto/rand.
	{regexp.MustCompile(`[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{30,}`), whole},
	{regexp.MustCompile(`[A-Z2-7]{52}`), whole},
	{derText, nil}, // what is not public, see scrub
	// What is left of a key or a file of which the beginning is not here.
	{regexp.MustCompile(`(?:[A-Za-z0-9+/=]+` + lineEnd + `)+-----END [A-Z0-9 ]*PRIVATE KEY-----`), whole},
	{regexp.MustCompile(`(?:[A-Za-z0-9+/]{60,80}` + lineEnd + `){2,}[A-Za-z0-9+/]*=*`), whole},
	{regexp.MustCompile(`[A-Za-z0-9+/]{86,}==`), whole}, // 64 bytes: the key of a storage account
	{regexp.MustCompile(`(?i)([A-Za-z0-9_.-]*(?:` + secretWord + `)[A-Za-z0-9_.-]*)(\\?["']?\s*[:=]\s*)(\\?"(?:[^"\\\r\n]|\\.)*"?|'[^'\r\n]*'?|[^\s"',;&<>{}\[\]]+)`), named},
}

// userInfo takes the password out of a URL, and the user too when there is none
// or it is long.
func userInfo(_ *regexp.Regexp, found []byte) []byte {
	scheme, rest, _ := bytes.Cut(found, []byte("://"))
	user, password, ok := bytes.Cut(rest[:len(rest)-1], []byte(":"))
	if ok && portAndPath(password) {
		return found // no user at all: an @ further behind
	}
	switch {
	case ok:
		return []byte(string(scheme) + "://" + string(user) + ":" + Mark + "@")
	case len(user) >= 20:
		return []byte(string(scheme) + "://" + Mark + "@")
	}
	return found
}

func portAndPath(s []byte) bool {
	digits := len(s) - len(bytes.TrimLeft(s, "0123456789"))
	return digits > 0 && digits <= 5 && digits < len(s) && s[digits] == '/'
}

// public reports whether a text is the base64 of certificates, or of another
// thing that everybody may see.
func public(found []byte) bool {
	text := strings.NewReplacer("\r", "", "\n", "", `\r`, "", `\n`, "", " ", "", "\t", "", "-", "+", "_", "/").Replace(string(found))
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return false
	}
	_, err = x509.ParseCertificates(b)
	if err != nil {
		_, err = x509.ParseCertificateRequest(b)
	}
	if err != nil {
		_, err = x509.ParseRevocationList(b)
	}
	if err != nil {
		_, err = x509.ParsePKIXPublicKey(b)
	}
	return err == nil
}

// named takes the value behind a name that tells of a secret.
func named(p *regexp.Regexp, found []byte) []byte {
	m := p.FindSubmatch(found)
	if m == nil {
		return []byte(Mark)
	}
	name, between, v := string(m[1]), string(m[2]), string(m[3])
	open := ""
	for _, quote := range []string{`\"`, `"`, `'`} {
		if strings.HasPrefix(v, quote) {
			open = quote
			break
		}
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(v, open), open)
	if bare == "" || bare == Mark || !secretName(name) || harmless(name, bare) {
		return found
	}
	return []byte(name + between + open + Mark + open)
}

var (
	secretNames = regexp.MustCompile(`(?i)` + secretWord)
	// What follows the word makes it the name of something about a secret.
	aboutSecret = regexp.MustCompile(`(?i)(?:file|files|path|id|ids|expires|expiry|ends|starts|years|type|issuer|issuers|name|names|kind|count|url|uri|mode|lifetime|s|tokens|thumbprint|endpoint|signing|total|seconds|bytes)$`)
	guid        = regexp.MustCompile(`(?i)^\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?$`)
	plainValue  = regexp.MustCompile(`(?i)^(?:true|false|null|none|off|on|yes|no|[0-9.:+TZ-]{1,35}|client-token|bulk-token|ccm-token)$`)
	// Names of which the value is a secret whatever it looks like.
	strictNames = regexp.MustCompile(`(?i)password|passwd|passphrase|pwd|secret|key$|credential`)
)

// secretName reports whether the value of this name is a secret.
func secretName(name string) bool {
	return secretNames.MatchString(name) && !aboutSecret.MatchString(name)
}

// harmless reports whether the value can not be a secret of this name: the GUID
// of a token, a number, a truth value.
func harmless(name, v string) bool {
	if strictNames.MatchString(name) {
		return strings.EqualFold(v, "true") || strings.EqualFold(v, "false") || strings.EqualFold(v, "null")
	}
	return guid.MatchString(v) || plainValue.MatchString(v)
}
