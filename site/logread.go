package site

import (
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Log files as administrators ask for them; logs.go keeps them.

// logFile is a file that may be asked for.
type logFile struct {
	adminservice.LogFile
	path string
	part string // directory of the part that it is kept for; empty: the site's own
}

// logFiles lists them by name.
func (s *Server) logFiles() ([]logFile, error) {
	var list []logFile
	add := func(dir, part string) error {
		prefix := ""
		if part != "" {
			prefix = part + "-"
		}
		entries, err := os.ReadDir(dir)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list log files: %w", err)
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.Type().IsRegular() || ext != ".log" && ext != ".lo_" {
				continue
			}
			st, err := e.Info()
			if err != nil {
				continue // it was renamed just now
			}
			list = append(list, logFile{adminservice.LogFile{Name: prefix + e.Name(), Size: st.Size(), Changed: st.ModTime().UTC()}, filepath.Join(dir, e.Name()), part})
		}
		return nil
	}
	if dir := s.cfg.Logs.Own; dir != "" {
		if err := add(dir, ""); err != nil {
			return nil, err
		}
	}
	if dir := s.cfg.Logs.Kept; dir != "" {
		parts, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("list log files: %w", err)
		}
		for _, p := range parts {
			if !p.IsDir() {
				continue
			}
			if err := add(filepath.Join(dir, p.Name()), p.Name()); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(list, func(a, b logFile) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *Server) listLogs(w http.ResponseWriter, r *http.Request) error {
	files, err := s.logFiles()
	if err != nil {
		return err
	}
	reporters, err := s.logReporters(r.Context())
	if err != nil {
		return err
	}
	var list []adminservice.LogFile
	for _, f := range files {
		if by, ok := reporters[f.part]; ok && f.part != "" {
			f.From = by.name
			if report, at := s.live.system(by.id); report != nil {
				f.Reported = at.UTC()
			}
		}
		f.DelaySeconds = s.kept.late(f.part).Seconds()
		list = append(list, f.LogFile)
	}
	return answerList(w, r, list)
}

// late is how old the newest lines of a part were when they came last.
func (k *keptLogs) late(part string) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.delay[part].Round(time.Millisecond)
}

// getLog answers the end of a log file, or what was written behind a position.
func (s *Server) getLog(w http.ResponseWriter, r *http.Request) error {
	tail, err := queryNumber(r, "tail", adminservice.MaxLogAnswer)
	if err != nil {
		return err
	}
	if r.URL.Query().Get("tail") == "" {
		tail = adminservice.DefaultLogTail
	}
	files, err := s.logFiles()
	if err != nil {
		return err
	}
	name := r.PathValue("id")
	i := slices.IndexFunc(files, func(f logFile) bool { return f.Name == name })
	if i < 0 {
		return opencmg.Errorf(opencmg.NotFound, "there is no log file %q: Logs lists them", name)
	}
	if r.URL.Query().Get("whole") == "true" {
		return sendLog(w, files[i].path)
	}
	text, position, err := readLog(files[i].path, r.URL.Query().Get("after"), int64(tail))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set(adminservice.LogPosition, position)
	w.Write(text)
	return nil
}

// sendLog answers a file behind the one that was renamed before it, as they are
// now: piece by piece, however large they are.
func sendLog(w http.ResponseWriter, path string) error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	// The newer one is opened first: a rotation in between shows as the same file
	// twice, and then there is nothing older that is kept.
	for _, name := range []string{path, strings.TrimSuffix(path, ".log") + ".lo_"} {
		f, err := os.Open(name)
		if len(files) > 0 && os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read log file: %w", err)
		}
		files = append(files, f)
	}
	var found []os.FileInfo
	for _, f := range files {
		st, err := f.Stat()
		if err != nil {
			return fmt.Errorf("read log file: %w", err)
		}
		found = append(found, st)
	}
	if len(found) > 1 && os.SameFile(found[0], found[1]) {
		found = found[:1]
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for i, st := range slices.Backward(found) {
		// Lines that are written meanwhile may be cut: up to its size of now.
		if _, err := io.CopyN(w, files[i], st.Size()); err != nil {
			return nil // the reader went away, or sees that it ends too early
		}
	}
	return nil
}

// readLog reads a log file from behind a position on, or its last bytes, whole
// lines as far as possible. A position is the file's mark and a number of bytes;
// the file that was renamed since is read to its end first.
func readLog(path, after string, tail int64) (text []byte, position string, err error) {
	mark, size, err := logMark(path)
	if err != nil {
		return nil, "", err
	}
	position = func(n int64) string { return mark + "." + strconv.FormatInt(n, 10) }(size)
	if after == "" {
		from := max(0, size-min(tail, adminservice.MaxLogAnswer))
		text, err = readRange(path, from, size)
		if from > 0 && tail > 0 {
			text = fromLineStart(text)
		}
		return text, position, err
	}
	was, number, _ := strings.Cut(after, ".")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return nil, "", opencmg.Errorf(opencmg.Invalid, "after: must be what the field %s of an earlier answer said", adminservice.LogPosition).About("after")
	}
	if was == mark && n <= size {
		text, err = readRange(path, n, size)
	} else {
		text, err = readRange(path, 0, size)
		old := strings.TrimSuffix(path, ".log") + ".lo_"
		if oldMark, oldSize, e := logMark(old); err == nil && old != path && e == nil && oldMark == was && n <= oldSize {
			var rest []byte
			rest, err = readRange(old, n, oldSize)
			text = append(rest, text...)
		}
	}
	if over := len(text) - adminservice.MaxLogAnswer; over > 0 {
		text = fromLineStart(text[over:])
	}
	return text, position, err
}

// fromLineStart drops the piece of a line that a text begins with.
func fromLineStart(text []byte) []byte {
	if i := slices.Index(text, '\n'); i >= 0 {
		return text[i+1:]
	}
	return text
}

// logMark tells a file from the one that takes its name after a rotation: by the
// beginning of its first line, which holds a time. size is where its last whole
// line ends, or close to it.
func logMark(path string) (mark string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("read log file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", 0, fmt.Errorf("read log file: %w", err)
	}
	var head [512]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", 0, fmt.Errorf("read log file: %w", err)
	}
	line := head[:n]
	if i := slices.Index(line, '\n'); i >= 0 {
		line = line[:i]
	}
	h := fnv.New64a()
	h.Write(line)
	return strconv.FormatUint(h.Sum64(), 16), st.Size(), nil
}

// readRange reads the bytes of a file from one place up to another, at most
// MaxLogAnswer, the last ones.
func readRange(path string, from, to int64) ([]byte, error) {
	from = max(from, to-adminservice.MaxLogAnswer)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read log file: %w", err)
	}
	defer f.Close()
	b := make([]byte, to-from)
	n, err := f.ReadAt(b, from)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}
