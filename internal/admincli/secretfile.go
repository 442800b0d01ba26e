package admincli

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencmg/opencmg"
)

// A secretFile takes a secret that the site tells once: a new file, or standard
// output.
type secretFile struct{ path string }

func (s *secretFile) register(fs *flag.FlagSet) {
	fs.StringVar(&s.path, "to", "", "write the token to this new `file`, readable by its owner only, and not to standard output")
}

// fill makes the file, lets the site make the secret, and writes it there. The
// file is made first: a secret that can not be kept is not made. Nothing is left
// behind when that fails.
func (s *secretFile) fill(make func() (string, error)) (err error) {
	if s.path == "" {
		return notEmpty(make())
	}
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return opencmg.Errorf(opencmg.Conflict, "--to %s: there is such a file already: name another one, so that no token is lost", s.path)
	}
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	text, err := make()
	if err = notEmpty(text, err); err == nil {
		_, err = f.WriteString(text + "\n")
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		os.Remove(s.path)
	}
	return err
}

var errNoToken = opencmg.Errorf(opencmg.Invalid, "the site's answer holds no token: is it of an older release?")

func notEmpty(secret string, err error) error {
	if err == nil && secret == "" {
		return errNoToken
	}
	return err
}

// print shows the secret unless it is in the file.
func (s *secretFile) print(e *Env, secret string) error {
	if s.path != "" {
		fmt.Fprintf(e.Stderr, "token: in %s\n", s.path)
		return nil
	}
	_, err := fmt.Fprintln(e.Stdout, secret)
	return err
}
