package ccm

import (
	"encoding/xml"
	"io"
	"strings"

	"github.com/opencmg/opencmg"
)

// parseXML reads one document into v. It refuses document type declarations
// and nesting deeper than maxXMLDepth, and believes no encoding declaration:
// the text is UTF-8 by then.
func parseXML(text string, v any) error {
	d := xml.NewTokenDecoder(boundedTokens(text))
	if err := d.Decode(v); err != nil {
		return &opencmg.Error{Kind: opencmg.Invalid, Msg: "XML document is malformed", Err: err}
	}
	return nil
}

func rawDecoder(text string) *xml.Decoder {
	d := xml.NewDecoder(strings.NewReader(text))
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	return d
}

type boundedReader struct {
	d     *xml.Decoder
	depth int
}

func boundedTokens(text string) *boundedReader { return &boundedReader{d: rawDecoder(text)} }

// Token implements xml.TokenReader.
func (b *boundedReader) Token() (xml.Token, error) {
	t, err := b.d.RawToken()
	if err != nil {
		return t, err
	}
	switch t.(type) {
	case xml.StartElement:
		if b.depth++; b.depth > maxXMLDepth {
			return nil, opencmg.Errorf(opencmg.Invalid, "XML document is nested too deeply")
		}
	case xml.EndElement:
		b.depth--
	case xml.Directive:
		return nil, opencmg.Errorf(opencmg.Invalid, "XML document has a document type declaration")
	}
	return t, nil
}

// formatXML writes v. The types given to it always marshal.
func formatXML(v any) string {
	b, err := xml.Marshal(v)
	if err != nil {
		panic("ccm: " + err.Error())
	}
	return string(b)
}

// childText returns the received text of the first child of the root with the
// given name, tags included, and everything around it with that child taken
// out. Signatures cover received text, so nothing may be re-serialised, and
// parsing only what was cut out leaves no second reading of the same bytes.
func childText(text, name string) (child, rest string, err error) {
	r := boundedTokens(text)
	d := xml.NewTokenDecoder(r)
	start, end, depth := -1, -1, 0
	for {
		before := int(r.d.InputOffset())
		t, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", "", &opencmg.Error{Kind: opencmg.Invalid, Msg: "XML document is malformed", Err: err}
		}
		switch t := t.(type) {
		case xml.StartElement:
			if depth++; depth == 2 && t.Name.Local == name {
				if start >= 0 {
					return "", "", opencmg.Errorf(opencmg.Invalid, "XML document has two elements %s", name)
				}
				start = before
			}
		case xml.EndElement:
			if depth == 2 && t.Name.Local == name {
				end = int(r.d.InputOffset())
			}
			depth--
		}
	}
	if start < 0 || end < 0 {
		return "", "", opencmg.Errorf(opencmg.Invalid, "XML document has no element %s", name)
	}
	return text[start:end], text[:start] + text[end:], nil
}
