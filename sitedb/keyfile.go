package sitedb

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/opencmg/opencmg"
)

// keyBytes is the length of a key: AES-256.
const keyBytes = 32

// A secretKey encrypts secrets. Its ID may be shown, the key never.
type secretKey struct {
	id   string
	text string // as in the file
	aead cipher.AEAD
}

func (k secretKey) LogValue() slog.Value { return slog.StringValue("key " + k.id) }
func (k secretKey) String() string       { return "key " + k.id }
func (k secretKey) GoString() string     { return "key " + k.id }

func newSecretKey(raw []byte) secretKey {
	block, err := aes.NewCipher(raw)
	if err != nil {
		panic(err) // the length is right
	}
	// A random nonce of 96 bits is good for 2^32 secrets under one key.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(append([]byte("opencmg secret key ID\x00"), raw...))
	return secretKey{hex.EncodeToString(sum[:8]), hex.EncodeToString(raw), aead}
}

// seal encrypts under the name, so that no row can take another one's place.
func (k secretKey) seal(name string, plaintext []byte) []byte {
	return k.aead.Seal(nil, nil, plaintext, []byte(name))
}

// A keyring is the key file: the present key, and below it former ones.
type keyring struct {
	path string

	mu   sync.Mutex  // guards the following
	keys []secretKey // at least one after load
}

// load reads the file. A missing one is fs.ErrNotExist.
func (r *keyring) load() error {
	info, err := os.Stat(r.path)
	if err != nil {
		return r.unreadable(err)
	}
	// Windows keeps who may read elsewhere than in the mode.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return opencmg.Errorf(opencmg.Invalid, "the key file %s has mode %04o, so that others can read it: run chmod 600 %s, and consider its key known to them (rotate it)", r.path, mode, r.path)
	}
	text, err := os.ReadFile(r.path)
	if err != nil {
		return r.unreadable(err)
	}
	keys, err := parseKeys(string(text))
	if err != nil {
		return opencmg.Errorf(opencmg.Invalid, "the key file %s: %v", r.path, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = keys
	return nil
}

func (r *keyring) unreadable(err error) error {
	text := "can not be read; check who may read it"
	if errors.Is(err, fs.ErrNotExist) {
		text = "is missing; put it there again from its copy"
	}
	return &opencmg.Error{Kind: opencmg.Invalid, Msg: fmt.Sprintf("the key file %s %s", r.path, text), Err: err}
}

// parseKeys reads one key per line. Errors do not show what they are about.
func parseKeys(text string) ([]secretKey, error) {
	var keys []secretKey
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		raw, err := hex.DecodeString(line)
		if err != nil {
			raw, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(line, "="))
		}
		if err != nil || len(raw) != keyBytes {
			return nil, fmt.Errorf("line %d is no key; a key is %d random bytes as hexadecimal or base64 text, as from openssl rand -hex %d", i+1, keyBytes, keyBytes)
		}
		keys = append(keys, newSecretKey(raw))
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("it is empty; a key is %d random bytes as hexadecimal or base64 text, as from openssl rand -hex %d", keyBytes, keyBytes)
	}
	return keys, nil
}

// add puts a new key above those that were loaded, in the file first.
func (r *keyring) add() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	raw := make([]byte, keyBytes)
	rand.Read(raw)
	keys := append([]secretKey{newSecretKey(raw)}, r.keys...)
	var text strings.Builder
	text.WriteString("# The key of this site's secrets. Keep a copy, apart from the backups of the database.\n")
	for i, k := range keys {
		if i == 1 {
			text.WriteString("# Former keys, for backups from before.\n")
		}
		text.WriteString(k.text + "\n")
	}
	if err := writePrivate(r.path, text.String()); err != nil {
		return &opencmg.Error{Kind: opencmg.Invalid, Msg: fmt.Sprintf("the key file %s can not be written; check that its folder exists and who may write to it", r.path), Err: err}
	}
	r.keys = keys
	return nil
}

func (r *keyring) first() secretKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[0]
}

// find returns the key with this ID. It reads the file again when it knows
// none, for another process may have made one.
func (r *keyring) find(id string) (secretKey, error) {
	for again := true; ; again = false {
		r.mu.Lock()
		keys := r.keys
		r.mu.Unlock()
		for _, k := range keys {
			if k.id == id {
				return k, nil
			}
		}
		if !again {
			return secretKey{}, opencmg.Errorf(opencmg.Invalid, "the key file %s has the key %s, and the secrets of this database need the key %s: put the file there that belongs to this database", r.path, keys[0].id, id)
		}
		if err := r.load(); err != nil {
			return secretKey{}, err
		}
	}
}

func (r *keyring) open(name string, s sealedSecret) ([]byte, error) {
	k, err := r.find(s.keyID)
	if err != nil {
		return nil, err
	}
	plaintext, err := k.aead.Open(nil, nil, s.data, []byte(name))
	if err != nil {
		return nil, opencmg.Errorf(opencmg.Invalid, "secret %s is damaged: the stored bytes do not fit its name and key; store it again", name)
	}
	return plaintext, nil
}

// writePrivate replaces a file by one that only its owner can read, at once
// and durably.
func writePrivate(path, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil || runtime.GOOS == "windows" {
		return err // Windows can not sync a folder
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
