package cmtrace

import (
	"fmt"
	"os"
	"strings"
)

// A file is one log file with its rotation. Its owner serialises the calls.
type file struct {
	path string
	max  int64
	f    *os.File
	size int64
}

// write appends one entry, after renaming a file that it would make too large.
func (f *file) write(line []byte) error {
	if f.f != nil && f.size > 0 && f.size+int64(len(line)) > f.max {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	if f.f == nil {
		if err := f.open(); err != nil {
			return err
		}
		if f.size > 0 && f.size+int64(len(line)) > f.max {
			if err := f.rotate(); err != nil {
				return err
			}
			if err := f.open(); err != nil {
				return err
			}
		}
	}
	n, err := f.f.Write(line)
	f.size += int64(n)
	if err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	return nil
}

func (f *file) open() error {
	h, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	st, err := h.Stat()
	if err != nil {
		h.Close()
		return fmt.Errorf("open log: %w", err)
	}
	f.f, f.size = h, st.Size()
	return nil
}

// rotate renames .log to .lo_; the file is open again at the next write. When
// the rename fails (a viewer holds the file on Windows) the log simply grows.
func (f *file) rotate() error {
	err := f.close()
	if os.Rename(f.path, strings.TrimSuffix(f.path, ".log")+".lo_") != nil {
		f.max += DefaultMaxSize
	}
	return err
}

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	h := f.f
	f.f, f.size = nil, 0
	if err := h.Close(); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}
