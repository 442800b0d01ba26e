package ccm_test

import (
	"bytes"
	"compress/zlib"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
)

const body = `<RequestAssignments SchemaVersion="1.00">Grüße 🙂</RequestAssignments>`

func TestMessageRoundTrip(t *testing.T) {
	m := &ccm.Message{
		ID: "{AAAAAAAA-0000-0000-0000-000000000001}", SourceID: testID, SourceHost: "PC01",
		TargetAddress: "mp:[http]MP_PolicyManager", TargetEndpoint: ccm.EndpointPolicy, TargetHost: "https://gw.example.com/CCM_Proxy_MutualAuth/8",
		ReplyTo: "direct:PC01:PolicyAgent_ReplyAssignments", ReplyMode: ccm.ReplySync, Priority: 5, SentTime: stamp,
		RegistrationReset: "direct:PC01:ClientRegistration",
		Properties:        []ccm.Property{{Name: "FileType", Value: "SMX"}}, Text: body,
	}
	contentType, data, err := m.Encode(testKey())
	if err != nil {
		t.Fatal(err)
	}
	if contentType != `multipart/mixed; boundary="aAbBcCdDv1234567890VxXyYzZ"` {
		t.Errorf("Content-Type is %s", contentType)
	}
	if !bytes.HasPrefix(data, []byte("--aAbBcCdDv1234567890VxXyYzZ\r\ncontent-type: text/plain; charset=UTF-16\r\n\r\n\xff\xfe<\x00M\x00s\x00g\x00")) {
		t.Errorf("starts with %q", data[:100])
	}
	if !bytes.HasSuffix(data, []byte("\r\n--aAbBcCdDv1234567890VxXyYzZ--")) {
		t.Errorf("ends with %q", data[len(data)-40:])
	}
	got, err := ccm.ParseMessage(contentType, data, ccm.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := got.VerifyPayload(&testKey().PublicKey); err != nil {
		t.Error(err)
	}
	wantKind(t, got.VerifyPayload(&otherKey().PublicKey), opencmg.Unauthorized)
	if err := ccm.Verify(&testKey().PublicKey, ccm.EncodeUTF16Z(string(testID)), got.Auth.ClientIDSignature); err != nil {
		t.Errorf("client ID signature: %v", err)
	}
	if got.Auth.HashAlgorithm != ccm.HashSHA256 || got.Auth.PublicKey != ccm.MarshalPublicKey(&testKey().PublicKey) || got.Auth.Capabilities != "NonSSL" {
		t.Errorf("hook is %+v", got.Auth)
	}
	if got.Property("filetype") != "SMX" || got.Text != body || got.SourceID != testID || !got.SentTime.Equal(stamp) || got.TargetHost != m.TargetHost || got.RegistrationReset != m.RegistrationReset || got.Timeout != 60000 {
		t.Errorf("read as %+v", got)
	}

	tampered := bytes.Replace(data, []byte("\r\n--aAbBcCdDv1234567890VxXyYzZ--"), []byte("\x00\r\n--aAbBcCdDv1234567890VxXyYzZ--"), 1)
	if got, err = ccm.ParseMessage(contentType, tampered, ccm.Limits{}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, got.VerifyPayload(&testKey().PublicKey), opencmg.Unauthorized)
	got.Auth = nil
	wantKind(t, got.VerifyPayload(&testKey().PublicKey), opencmg.Unauthorized)
}

func TestReply(t *testing.T) {
	request := &ccm.Message{ID: "{AAAAAAAA-0000-0000-0000-000000000001}", SourceHost: "PC01", ReplyTo: "direct:PC01:LS_ReplyLocations"}
	for _, plain := range []bool{false, true} {
		request.PlainReply = plain
		contentType, data, err := request.Reply("MP1", body)
		if err != nil {
			t.Fatal(err)
		}
		_, second, _ := bytes.Cut(data, []byte("VxXyYzZ\r\ncontent-type: text/plain; charset=UTF-16\r\n\r\n"))
		_, second, _ = bytes.Cut(second, []byte("VxXyYzZ\r\n"))
		head, second, _ := bytes.Cut(second, []byte("\r\n\r\n"))
		second = bytes.TrimSuffix(second, []byte("\r\n--aAbBcCdDv1234567890VxXyYzZ--"))
		wantHead := "content-type: application/octet-stream"
		if plain {
			wantHead = "content-type: text/plain; charset=UTF-16"
		} else {
			z, err := zlib.NewReader(bytes.NewReader(second))
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if _, err := b.ReadFrom(z); err != nil {
				t.Fatal(err)
			}
			second = b.Bytes()
		}
		if string(head) != wantHead {
			t.Errorf("plain=%v: part 2 has the fields %q", plain, head)
		}
		if d := cmp.Diff(ccm.EncodeUTF16Z(body), second); d != "" {
			t.Errorf("plain=%v: body must end with exactly one character behind the document: %s", plain, d)
		}
		got, err := ccm.ParseMessage(contentType, data, ccm.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got.CorrelationID != request.ID || got.TargetEndpoint != "LS_ReplyLocations" || got.Text != body || got.ReplyMode != "Reply" {
			t.Errorf("plain=%v: read as %+v", plain, got)
		}
	}
}

func utf16z(s string) string   { return string(ccm.EncodeUTF16Z(s)) }
func utf16bom(s string) string { return "\xff\xfe" + string(ccm.EncodeUTF16(s)) }

func deflated(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	w.Write([]byte(s))
	w.Close()
	return b.String()
}

// smallWindow is deflated with the header byte 0x58 of an 8 kB window.
func smallWindow(s string) string {
	z := []byte(deflated(s))
	z[0] = 0x58
	z[1] = z[1] &^ 31
	z[1] += byte(31 - (int(z[0])<<8|int(z[1]))%31)
	return string(z)
}

// Every variant that working clients were seen to send (wire.md 3.1, 3.2).
func TestParseVariants(t *testing.T) {
	const crlf = "\r\n"
	native := `<Msg ReplyCompression="none" SchemaVersion="1.1"><ID>{1}</ID><SourceID>` + string(testID) + `</SourceID><TargetEndpoint>MP_PolicyManager</TargetEndpoint>` +
		`<Hooks><Hook3 Name="zlib-compress"/><Hook2 Name="clientauth"><Property Name="ClientCapability">NonSSL</Property><Property Name="PayloadSignature">AA</Property></Hook2></Hooks></Msg>`
	alphabetical := `<Msg SchemaVersion="1.1"><Body Length="x" Offset="" Type="ByteRange"/><Hooks><Hook2 Name="clientauth"><Property Name="PayloadSignature">AA</Property></Hook2></Hooks><ID>1</ID><Payload Type="inline"/><Priority>high</Priority><SourceID>` + strings.ToLower(string(testID)) + `</SourceID><TargetEndpoint>MP_PolicyManager</TargetEndpoint><TargetHost>https://gw/x</TargetHost></Msg>`
	bare := `<?xml version="1.0" encoding="utf-16"?><Msg><SourceID>` + string(testID) + `</SourceID><TargetEndpoint>MP_PolicyManager</TargetEndpoint></Msg>`
	type variant struct{ contentType, data string }
	multi := func(mark, h1, p1, h2, p2 string) variant {
		return variant{`multipart/mixed; boundary="` + mark + `"`, "--" + mark + crlf + h1 + crlf + p1 + crlf + "--" + mark + crlf + h2 + crlf + p2 + crlf + "--" + mark + "--"}
	}
	text, bin := "content-type: text/plain; charset=UTF-16"+crlf, "content-type: application/octet-stream"+crlf
	usual := multi("aAbBcCdDv1234567890VxXyYzZ", text, utf16bom(native), bin, deflated(utf16z(body)+crlf))
	for name, v := range map[string]variant{
		"usual":                       usual,
		"library":                     multi("aAbBcCdDv1234567890VxXyYzZ", text, utf16bom(alphabetical), bin, smallWindow(utf16z(body)+crlf)),
		"no CRLF inside":              multi("b", text, utf16bom(native), bin, deflated(utf16z(body))),
		"no NUL inside":               multi("b", text, utf16bom(native), bin, deflated(string(ccm.EncodeUTF16(body)))),
		"no mark":                     multi("b", text, string(ccm.EncodeUTF16(native)), bin, deflated(utf16z(body)+crlf)),
		"header with NUL":             multi("b", text, utf16bom(native+"\x00"), bin, deflated(utf16z(body)+crlf)),
		"no fields":                   multi("b", "", utf16bom(bare), "", utf16z(body)),
		"plain":                       multi("b", text, utf16bom(bare), text, utf16z(body)),
		"plain with mark and NULs":    multi("b", text, utf16bom(bare), text, utf16bom(body)+"\x00\x00\x00\x00\x00\x00"),
		"plain with odd NUL":          multi("b", text, utf16bom(bare), text, utf16bom(body)+"\x00\x00\x00"),
		"form-data":                   multi("----x", `Content-Disposition: form-data; name="Msg"`+crlf+text, utf16bom(bare), `Content-Disposition: form-data; name="RequestBody"`+crlf+text, utf16z(body)),
		"unquoted boundary, epilogue": {"multipart/form-data; boundary=xyz", strings.ReplaceAll(usual.data, "aAbBcCdDv1234567890VxXyYzZ", "xyz") + crlf},
		"preamble":                    {usual.contentType, "hello" + crlf + usual.data},
	} {
		m, err := ccm.ParseMessage(v.contentType, []byte(v.data), ccm.Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.Text != body || m.TargetEndpoint != ccm.EndpointPolicy || m.SourceID != testID {
			t.Errorf("%s: read as %+v", name, m)
		}
	}

	for name, c := range map[string]struct {
		v    variant
		kind opencmg.Kind
	}{
		"empty":                 {variant{usual.contentType, ""}, opencmg.Unavailable},
		"no boundary":           {variant{"text/plain", usual.data}, opencmg.Invalid},
		"other boundary":        {variant{"multipart/mixed; boundary=other", usual.data}, opencmg.Invalid},
		"cut short":             {variant{usual.contentType, usual.data[:len(usual.data)-40]}, opencmg.Invalid},
		"one part":              {variant{"multipart/mixed; boundary=b", "--b\r\n\r\nx\r\n--b--"}, opencmg.Invalid},
		"no end of fields":      {variant{"multipart/mixed; boundary=b", "--b\r\na: b"}, opencmg.Invalid},
		"many parts":            {variant{"multipart/mixed; boundary=b", strings.Repeat("--b\r\n\r\nx\r\n", 20) + "--b--"}, opencmg.TooLarge},
		"header no XML":         {multi("b", text, utf16bom("hello"), "", utf16z(body)), opencmg.Invalid},
		"injection in SourceID": {multi("b", text, utf16bom(strings.Replace(bare, string(testID), string(testID)+"' OR 1=1--", 1)), "", utf16z(body)), opencmg.Invalid},
		"braces in SourceID":    {multi("b", text, utf16bom(strings.Replace(bare, string(testID), "{"+string(testID)[5:]+"}", 1)), "", utf16z(body)), opencmg.Invalid},
		"entities":              {multi("b", text, utf16bom(`<!DOCTYPE a [<!ENTITY b "c">]>`+bare), "", utf16z(body)), opencmg.Invalid},
		"unpaired surrogate":    {multi("b", text, utf16bom(bare), "", "<\x00a\x00\x00\xd8>\x00"), opencmg.Invalid},
		"odd bytes":             {multi("b", text, utf16bom(bare), "", utf16z(body)+"x"), opencmg.Invalid},
		"empty body":            {multi("b", text, utf16bom(bare), "", ""), opencmg.Invalid},
		"broken zlib":           {multi("b", text, utf16bom(bare), bin, deflated(utf16z(body))[:20]), opencmg.Invalid},
		"huge header":           {multi("b", text, utf16bom(bare+strings.Repeat(" ", 200<<10)), bin, deflated(utf16z(body))), opencmg.TooLarge},
	} {
		_, err := ccm.ParseMessage(c.v.contentType, []byte(c.v.data), ccm.Limits{})
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		t.Run(name, func(t *testing.T) { wantKind(t, err, c.kind) })
	}
}

func TestInflationIsBounded(t *testing.T) {
	bomb := deflated(strings.Repeat("A\x00", 8<<20))
	data := "--b\r\n\r\n" + utf16bom("<Msg/>") + "\r\n--b\r\n\r\n" + bomb + "\r\n--b--"
	_, err := ccm.ParseMessage("multipart/mixed; boundary=b", []byte(data), ccm.Limits{MaxText: 1 << 20})
	wantKind(t, err, opencmg.TooLarge)
}

func FuzzParseMessage(f *testing.F) {
	m := &ccm.Message{SourceID: testID, TargetEndpoint: ccm.EndpointPolicy, Text: body, SentTime: stamp}
	const contentType = "multipart/mixed; boundary=aAbBcCdDv1234567890VxXyYzZ"
	_, data, err := m.Encode(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for _, text := range []string{
		"<ClientRegistrationRequest><Data SMSID=''><Certificates><Signing>3082</Signing></Certificates></Data></ClientRegistrationRequest>",
		ccm.AssignmentRequest{ClientID: testID, ServerCookie: stamp}.Encode(),
		ccm.LocationRequest{Kind: ccm.ContentLocation, SiteCode: "LAB"}.Encode(),
		ccm.TokenManagerRequest{ClientID: testID}.Encode(),
		(&ccm.Report{ClientID: testID, States: []ccm.StateMessage{{TopicID: "x"}}, Instances: []ccm.Instance{{Class: "C", Properties: []ccm.Property{{Name: "a", Value: "b"}}}}}).Encode(),
		ccm.Status{}.Encode(),
	} {
		f.Add([]byte("--aAbBcCdDv1234567890VxXyYzZ\r\n\r\n<Msg><SourceID>" + string(testID) + "</SourceID><Hooks><Hook2 Name='clientauth'><Property Name='Token'>x</Property></Hook2></Hooks></Msg>\r\n--aAbBcCdDv1234567890VxXyYzZ\r\n\r\n" + text + "\r\n--aAbBcCdDv1234567890VxXyYzZ--"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ccm.ParseMessage(contentType, data, ccm.Limits{MaxText: 1 << 20})
		if err != nil {
			return
		}
		if m.SourceID != "" && m.SourceID.Validate() != nil {
			t.Errorf("loose client ID %q", m.SourceID)
		}
		if len(m.Text) > 3<<20 {
			t.Errorf("text of %d bytes", len(m.Text))
		}
		ccm.ParseRegistration(m.Text)
		ccm.ParseAssignmentRequest(m.Text)
		ccm.ParseAssignmentReply(m.Text)
		ccm.ParseLocationRequest(m.Text)
		ccm.ParseMPLocations(m.Text)
		ccm.ParseTokenManagerRequest(m.Text)
		ccm.ParseClientIDQuery(m.Text)
		ccm.ParseStatus(m.Text)
		if r, err := ccm.LastReport(m.Text); err == nil {
			ccm.ParseReport(r)
		}
	})
}
