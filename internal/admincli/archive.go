package admincli

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"time"
)

// An archive is a compressed tar file with one directory on top.
type archive struct {
	gz   *gzip.Writer
	tar  *tar.Writer
	when time.Time
}

func newArchive(w io.Writer, when time.Time) *archive {
	gz := gzip.NewWriter(w)
	return &archive{gz, tar.NewWriter(gz), when}
}

// add puts a file into the archive. Of its name only what is harmless on every
// system stays.
func (a *archive) add(name string, b []byte) error {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, strings.ReplaceAll(name, "..", "__"))
	if err := a.tar.WriteHeader(&tar.Header{Name: "opencmg-diag/" + name, Mode: 0o600, Size: int64(len(b)), ModTime: a.when, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := a.tar.Write(b)
	return err
}

func (a *archive) close() error { return errors.Join(a.tar.Close(), a.gz.Close()) }
