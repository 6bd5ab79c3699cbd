package statefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// MaxSize bounds a file before it is parsed, in bytes.
const MaxSize = 1 << 20

// ErrUnusable is wrapped by what is wrong with a file's content: reading it
// again does not help.
var ErrUnusable = errors.New("cannot be used")

// Unusable returns an error that wraps ErrUnusable.
func Unusable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnusable, fmt.Sprintf(format, args...))
}

// Read reads a regular file of bounded size. One that is not there is
// fs.ErrNotExist, one that is something else ErrUnusable.
func Read(path string) (data []byte, err error) {
	// A FIFO must not hold the agent, nor a link lead it elsewhere.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO): // a link, a socket
		return nil, Unusable("not a regular file")
	case err != nil:
		return nil, err //nolint:wrapcheck // names the path
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err //nolint:wrapcheck // names the path
	}
	if !info.Mode().IsRegular() {
		return nil, Unusable("not a regular file")
	}
	data, err = io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err //nolint:wrapcheck // names the path
	}
	if len(data) > MaxSize {
		return nil, Unusable("larger than %d bytes", MaxSize)
	}
	return data, nil
}

// Write replaces a file, and makes its directory where it is missing.
func Write(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err //nolint:wrapcheck // names the path
	}
	if err := renameio.WriteFile(path, data, 0o600, renameio.WithTempDir(dir)); err != nil {
		return err //nolint:wrapcheck // names the path
	}
	return Sync(dir)
}

// Sync makes what was created, renamed and removed in a directory durable.
func Sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err //nolint:wrapcheck // names the path
	}
	return errors.Join(d.Sync(), d.Close())
}

// WriteJSON replaces a file by v.
func WriteJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err //nolint:wrapcheck // a value that cannot be encoded is a programmer's
	}
	return Write(path, append(data, '\n'))
}

// ReadJSON reads what WriteJSON wrote.
func ReadJSON(path string, v any) error {
	data, err := Read(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return Unusable("%v", err)
	}
	return nil
}
