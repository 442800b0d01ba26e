package azure_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/azure"
)

const day = 24 * time.Hour

// Over two years, with a call a day, each key lives half a year and a week at
// most, and the key that is replaced has never signed within the last week.
func TestRotateStorageKeys(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys := []*armstorage.AccountKey{
		{KeyName: to.Ptr("key1"), Value: to.Ptr("a2V5MQ=="), CreationTime: to.Ptr(now)},
		{KeyName: to.Ptr("key2"), Value: to.Ptr("a2V5Mg=="), CreationTime: to.Ptr(now)},
	}
	signed := map[string]time.Time{} // when each key signed last
	var replaced []string
	c.now = func() time.Time { return now }
	client := storageKeys(c, &keys, func(name string) {
		replaced = append(replaced, name+" day "+now.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).Truncate(day).String())
		if last, ok := signed[name]; ok && now.Sub(last) < azure.ServiceLinkLife {
			t.Errorf("%s is replaced %v after it signed", name, now.Sub(last))
		}
		for _, k := range keys {
			if *k.KeyName == name {
				k.CreationTime = to.Ptr(now)
			}
		}
	})
	for range 2 * 365 {
		r, err := client.RotateStorageKeys(t.Context(), deployment(), day)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Next.After(now) {
			t.Fatalf("next at %v, now %v", r.Next, now)
		}
		key, err := client.SigningKey(t.Context(), deployment())
		if err != nil {
			t.Fatal(err)
		}
		signed[key.Name] = now
		for _, k := range keys {
			if age := now.Sub(*k.CreationTime); age > azure.KeyLife+azure.ServiceLinkLife {
				t.Fatalf("%s is %v old", *k.KeyName, age)
			}
		}
		now = now.Add(day)
	}
	want := []string{"key2 day 4320h0m0s", "key1 day 4488h0m0s", "key2 day 8640h0m0s", "key1 day 8808h0m0s", "key2 day 12960h0m0s", "key1 day 13128h0m0s", "key2 day 17280h0m0s", "key1 day 17448h0m0s"}
	if d := cmp.Diff(want, replaced); d != "" {
		t.Error(d)
	}
}

func TestUploadService(t *testing.T) {
	c := newCloud(t, opencmg.AzureLab)
	key := base64.StdEncoding.EncodeToString([]byte("planted storage key"))
	keys := []*armstorage.AccountKey{
		{KeyName: to.Ptr("key1"), Value: to.Ptr("b3RoZXI="), CreationTime: to.Ptr(time.Unix(1, 0))},
		{KeyName: to.Ptr("key2"), Value: &key, CreationTime: to.Ptr(time.Unix(2, 0))},
	}
	client := storageKeys(c, &keys, nil)
	content := bytes.Repeat([]byte("gateway"), 1000)
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	blob := c.env.BlobURL("granitefalls") + "service/opencmg-1.2+x.bin"
	stored := ""
	c.on("HEAD", blob, func(request) reply {
		if stored == "" {
			return reply{status: 404, header: map[string]string{"x-ms-error-code": "BlobNotFound"}}
		}
		return reply{status: 200, header: map[string]string{"x-ms-meta-sha256": stored, "Content-Length": "7000"}}
	})
	c.on("PUT", blob, func(r request) reply {
		if !bytes.Equal(r.Body, content) || r.Header.Get("x-ms-blob-content-md5") == "" || r.Header.Get("x-ms-blob-type") != "BlockBlob" {
			t.Errorf("%d bytes, %v", len(r.Body), r.Header)
		}
		if !strings.HasPrefix(r.Header.Get("Authorization"), "SharedKey granitefalls:") {
			t.Errorf("signed by %q", r.Header.Get("Authorization"))
		}
		stored = r.Header.Get("x-ms-meta-sha256")
		return reply{status: 201}
	})
	for range 2 {
		link, expires, err := client.UploadService(t.Context(), deployment(), "opencmg-1.2+x.bin", bytes.NewReader(content), int64(len(content)), strings.ToUpper(digest))
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(expires); left < azure.ServiceLinkLife-time.Hour || left > azure.ServiceLinkLife {
			t.Errorf("expires in %v", left)
		}
		checkSAS(t, link, key)
	}
	if n := len(c.sent("PUT", ".bin")); n != 1 {
		t.Errorf("%d uploads", n)
	}
	if stored != digest {
		t.Errorf("stored with %s", stored)
	}
	stored = ""
	if _, _, err := client.UploadService(t.Context(), deployment(), "opencmg-1.2+x.bin", bytes.NewReader(content), int64(len(content)), strings.Repeat("0", 64)); err == nil {
		t.Error("a wrong checksum was taken")
	}
	c.on("HEAD", blob, func(request) reply {
		return reply{status: 403, header: map[string]string{"x-ms-error-code": "KeyBasedAuthenticationNotPermitted"}}
	})
	_, _, err := client.UploadService(t.Context(), deployment(), "opencmg-1.2+x.bin", bytes.NewReader(content), int64(len(content)), digest)
	if ce := cloudErr(t, err); ce.Code != "KeyBasedAuthenticationNotPermitted" || !strings.Contains(ce.NextStep, "shared key") {
		t.Errorf("%+v", ce)
	}
	for _, planted := range []string{key, "planted storage key", "sig="} {
		if strings.Contains(c.logs.String(), planted) {
			t.Errorf("%q is in the log", planted)
		}
	}
}

// checkSAS verifies a service signature of a blob by its published form.
func checkSAS(t *testing.T, link, key string) {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.Scheme != "https" || q.Get("spr") != "https" || q.Get("sp") != "r" || q.Get("sr") != "b" {
		t.Errorf("address %s", u.Redacted())
	}
	text := strings.Join([]string{q.Get("sp"), q.Get("st"), q.Get("se"), "/blob/granitefalls" + u.Path, q.Get("si"), q.Get("sip"), q.Get("spr"), q.Get("sv"), q.Get("sr"), "", "", "", "", "", "", ""}, "\n")
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha256.New, raw)
	h.Write([]byte(text))
	if want := base64.StdEncoding.EncodeToString(h.Sum(nil)); q.Get("sig") != want {
		t.Errorf("signature %s, want %s", q.Get("sig"), want)
	}
}
