package ccm_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
)

const testID = opencmg.ClientID("GUID:11111111-2222-3333-4444-555555555555")

var stamp = time.Date(2026, 1, 31, 9, 30, 0, 0, time.UTC)

// testKey is one key for all tests, since making it is slow.
var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

var otherKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func selfSigned(t testing.TB, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader,
		&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "SMS"}, NotBefore: stamp, NotAfter: stamp.AddDate(10, 0, 0)},
		&x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func wantKind(t *testing.T, err error, kind opencmg.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error is %v, want kind %q", err, kind)
	}
}

func TestSignIsReversedHex(t *testing.T) {
	key := testKey()
	sig, err := ccm.Sign(key, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	if sig != strings.ToUpper(sig) || len(sig) != 512 {
		t.Errorf("signature %q is not 256 bytes in capital hexadecimal", sig)
	}
	raw, _ := hex.DecodeString(sig)
	slices.Reverse(raw)
	sum := sha256.Sum256([]byte("text"))
	if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], raw); err != nil {
		t.Error(err)
	}
	if err := ccm.Verify(&key.PublicKey, []byte("text"), sig); err != nil {
		t.Error(err)
	}
	wantKind(t, ccm.Verify(&key.PublicKey, []byte("Text"), sig), opencmg.Unauthorized)
	wantKind(t, ccm.Verify(&otherKey().PublicKey, []byte("text"), sig), opencmg.Unauthorized)
	wantKind(t, ccm.Verify(&key.PublicKey, []byte("text"), "zz"), opencmg.Unauthorized)
	wantKind(t, ccm.Verify(&key.PublicKey, []byte("text"), ""), opencmg.Unauthorized)
}

func TestPublicKeyBlob(t *testing.T) {
	key := &testKey().PublicKey
	blob := ccm.MarshalPublicKey(key)
	if len(blob) != 2*276 || !strings.HasPrefix(blob, "0602000000A400005253413100080000") {
		t.Errorf("blob of %d digits starts with %q", len(blob), blob[:32])
	}
	got, err := ccm.ParsePublicKey(blob)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(key) {
		t.Error("the key changed on its way")
	}
	for _, bad := range []string{"", "zz", blob[:60], strings.Repeat("00", 276), blob + blob + blob + blob + blob + blob + blob + blob} {
		if _, err := ccm.ParsePublicKey(bad); err == nil {
			t.Errorf("accepted %d digits of nonsense", len(bad))
		}
	}
}

// signHeader makes the header signatures that clients are known, or thought,
// to send.
func signHeader(t *testing.T, value string, bare, reversed bool) string {
	t.Helper()
	sum := sha256.Sum256(ccm.EncodeUTF16Z(value))
	hash := crypto.SHA256
	if bare {
		hash = 0
	}
	sig, err := rsa.SignPKCS1v15(nil, testKey(), hash, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	if reversed {
		slices.Reverse(sig)
	}
	return hex.EncodeToString(sig)
}

func TestClientProof(t *testing.T) {
	const when = "2026-01-31T09:30:00Z"
	token := func(v string) func(bool, bool) map[string]string {
		return func(bare, reversed bool) map[string]string {
			return map[string]string{ccm.HeaderClientToken: v, ccm.HeaderClientTokenSignature: signHeader(t, v, bare, reversed)}
		}
	}
	families := map[string]func(bare, reversed bool) map[string]string{
		"A":             token(string(testID) + ";" + when + ";2"),
		"A without 2":   token(string(testID) + ";" + when),
		"A with braces": token("{" + string(testID)[5:] + "};" + when),
		"B": func(bare, reversed bool) map[string]string {
			return map[string]string{
				ccm.HeaderClientID: string(testID), ccm.HeaderClientIDSignature: signHeader(t, string(testID), bare, reversed),
				ccm.HeaderTimestamp: when, ccm.HeaderTimestampSignature: signHeader(t, when, bare, reversed),
			}
		},
		"B in the proxy article's spelling": func(bare, reversed bool) map[string]string {
			return map[string]string{
				ccm.HeaderClientID: string(testID), ccm.HeaderClientIDSignature: signHeader(t, string(testID), bare, reversed),
				ccm.HeaderTimestamp: when, ccm.HeaderTimestampsSignature: signHeader(t, when, bare, reversed),
			}
		},
	}
	for name, family := range families {
		for _, bare := range []bool{false, true} {
			for _, reversed := range []bool{false, true} {
				h := family(bare, reversed)
				p, err := ccm.ParseClientProof(func(n string) string { return h[n] })
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if p.ClientID != testID || p.Family != name[:1] {
					t.Errorf("%s: read as %+v", name, p)
				}
				if err := p.Verify(&testKey().PublicKey, stamp.Add(time.Minute)); err != nil {
					t.Errorf("%s bare=%v reversed=%v: %v", name, bare, reversed, err)
				}
				wantKind(t, p.Verify(&otherKey().PublicKey, stamp), opencmg.Unauthorized)
				wantKind(t, p.Verify(&testKey().PublicKey, stamp.Add(2*ccm.ProofSkew)), opencmg.Unauthorized)
				wantKind(t, p.Verify(&testKey().PublicKey, stamp.Add(-2*ccm.ProofSkew)), opencmg.Unauthorized)
			}
		}
	}
	if p, err := ccm.ParseClientProof(func(string) string { return "" }); p != nil || err != nil {
		t.Errorf("no headers gave %v, %v", p, err)
	}
	for _, bad := range []string{"x", "a;b;c;d", "GUID:1;" + when, string(testID) + ";yesterday"} {
		if _, err := ccm.ParseClientProof(func(n string) string { return map[string]string{ccm.HeaderClientToken: bad}[n] }); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
	ours, err := ccm.ProofHeaders(testKey(), testID, stamp)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ccm.ParseClientProof(func(n string) string { return ours[n] })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(&testKey().PublicKey, stamp); err != nil {
		t.Error(err)
	}
}

func TestRegistration(t *testing.T) {
	cert := selfSigned(t, testKey())
	want := &ccm.RegistrationRequest{
		RequestType: ccm.Registration, TimeStamp: stamp, AgentIdentity: "LabAgent", AgentVersion: "5.00.9128.1000",
		Signing: ccm.Certificate{KeyType: ccm.KeySelfSigned, Certificate: cert}, Encryption: ccm.Certificate{KeyType: ccm.KeySelfSigned, Certificate: cert},
		Properties: []ccm.Property{{Name: "Netbios Name", Value: "PC01"}, {Name: "FQ Name", Value: "pc01.example.com"}},
	}
	text, err := want.Encode(testKey())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ccm.ParseRegistration(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Verify(nil); err != nil {
		t.Error(err)
	}
	wantKind(t, got.Verify(&otherKey().PublicKey), opencmg.Unauthorized)
	if d := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { n := p.Last().String(); return n == ".data" || n == ".signature" }, cmp.Ignore()), cmp.AllowUnexported(ccm.RegistrationRequest{})); d != "" {
		t.Error(d)
	}
	if got.NetBIOSName() != "PC01" || got.FQDN() != "pc01.example.com" {
		t.Errorf("names are %q and %q", got.NetBIOSName(), got.FQDN())
	}

	c := &ccm.RegistrationRequest{RequestType: ccm.Confirmation, SMSID: testID, TimeStamp: stamp, AgentIdentity: "LabAgent"}
	if text, err = c.Encode(testKey()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, `<Signature SMSID="`+string(testID)+`">`) {
		t.Errorf("confirmation does not name its ID in the signature: %s", text)
	}
	if got, err = ccm.ParseRegistration(text); err != nil {
		t.Fatal(err)
	}
	if err := got.Verify(&testKey().PublicKey); err != nil {
		t.Error(err)
	}
	wantKind(t, got.Verify(nil), opencmg.Unauthorized)
}

// A signature covers the received text, line breaks between elements and
// character references included.
func TestRegistrationSignatureCoversReceivedText(t *testing.T) {
	cert := ccm.FormatCertificate(selfSigned(t, testKey()))
	data := "<Data HashAlgorithm=\"1.2.840.113549.1.1.11\" SMSID=\"\"\r\n RequestType=\"Registration\" TimeStamp=\"2026-01-31T09:30:00Z\">\r\n" +
		"<AgentInformation AgentIdentity='Lab&#65;gent' AgentVersion=\"5.00.9128.1000\" AgentType=\"0\"/>\n" +
		"<!-- <Data> --><Certificates><Encryption Encoding=\"HexBinary\" KeyType=\"1\">" + cert + "</Encryption><Signing Encoding=\"HexBinary\" KeyType=\"1\">\n" + cert + "\n</Signing></Certificates>" +
		"<DiscoveryProperties><Property Name=\"Netbios Name\" Value=\"PÇ🙂\"/></DiscoveryProperties></Data>"
	sig, err := ccm.Sign(testKey(), ccm.EncodeUTF16(data))
	if err != nil {
		t.Fatal(err)
	}
	text := "<ClientRegistrationRequest>\n" + data + "\n<Signature><SignatureValue>" + strings.ToLower(sig) + "\n</SignatureValue></Signature></ClientRegistrationRequest>"
	r, err := ccm.ParseRegistration(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(nil); err != nil {
		t.Error(err)
	}
	if r.NetBIOSName() != "PÇ🙂" || r.AgentIdentity != "LabAgent" {
		t.Errorf("read as %+v", r)
	}
	if r, err = ccm.ParseRegistration(strings.Replace(text, "PÇ", "PC", 1)); err != nil {
		t.Fatal(err)
	}
	wantKind(t, r.Verify(nil), opencmg.Unauthorized)
	// A second Data must not leave the reader and the signature with one each.
	_, err = ccm.ParseRegistration(strings.Replace(text, "<Signature>", strings.Replace(data, "LabA", "EvilA", 1)+"<Signature>", 1))
	wantKind(t, err, opencmg.Invalid)
}

func TestRegistrationRefusals(t *testing.T) {
	cert := ccm.FormatCertificate(selfSigned(t, testKey()))
	doc := func(attrs, inner string) string {
		return "<ClientRegistrationRequest><Data " + attrs + ">" + inner + "</Data><Signature><SignatureValue>00</SignatureValue></Signature></ClientRegistrationRequest>"
	}
	certs := "<Certificates><Signing>" + cert + "</Signing></Certificates>"
	for name, text := range map[string]string{
		"no document":          "",
		"no data":              "<ClientRegistrationRequest/>",
		"wrong root":           strings.ReplaceAll(doc("", certs), "ClientRegistrationRequest", "Other"),
		"sha-1":                doc(`HashAlgorithm="1.2.840.113549.1.1.5"`, certs),
		"unknown request type": doc(`RequestType="Upgrade"`, certs),
		"bad id":               doc(`SMSID="GUID:1'; DROP TABLE clients"`, certs),
		"no certificate":       doc("", ""),
		"not hexadecimal":      doc("", "<Certificates><Signing>hello</Signing></Certificates>"),
		"not a certificate":    doc("", "<Certificates><Signing>3000</Signing></Certificates>"),
		"confirmation, no id":  doc(`RequestType="Confirmation"`, ""),
		"entity":               `<!DOCTYPE a [<!ENTITY x "y">]>` + doc("", certs),
		"too deep":             doc("", strings.Repeat("<a>", 100)+strings.Repeat("</a>", 100)+certs),
	} {
		if _, err := ccm.ParseRegistration(text); !errors.Is(err, opencmg.Invalid) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if _, err := ccm.ParseRegistration(doc("", "<Certificates><Signing>"+strings.Repeat("30", 20000)+"</Signing></Certificates>")); !errors.Is(err, opencmg.TooLarge) {
		t.Errorf("huge certificate: error is %v", err)
	}
}

func TestRegistrationResponse(t *testing.T) {
	want := ccm.RegistrationResponse{ResponseType: ccm.Registration, TimeStamp: stamp, Status: ccm.Pending, SMSID: testID, ApprovalStatus: ccm.ApprovedByEntra}
	text := want.Encode()
	if g, w := text, `<ClientRegistrationResponse ResponseType="Registration" TimeStamp="2026-01-31T09:30:00Z" Status="1" SMSID="GUID:11111111-2222-3333-4444-555555555555" ApprovalStatus="3"></ClientRegistrationResponse>`; g != w {
		t.Errorf("got %s", g)
	}
	got, err := ccm.ParseRegistrationResponse(text)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := ccm.ParseRegistrationResponse(`<ClientRegistrationResponse SMSID="GUID:x"/>`); err == nil {
		t.Error("accepted a bad ID")
	}
}
