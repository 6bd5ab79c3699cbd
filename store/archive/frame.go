package archive

import (
	"bufio"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// oneFrame passes on exactly one zstd frame and refuses whatever follows it.
// The decoder alone would go on with further frames. Format: RFC 8878, 3.1.1.
type oneFrame struct {
	r        *bufio.Reader
	started  bool
	checksum int64
	// left is what remains of the present header or block, last says that no
	// other block follows it.
	left int64
	last bool
}

func newOneFrame(r io.Reader) *oneFrame { return &oneFrame{r: bufio.NewReaderSize(r, 1<<16)} }

func (f *oneFrame) Read(p []byte) (int, error) {
	if f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next finds out how long the next part is. It only peeks: Read passes it on.
func (f *oneFrame) next() error {
	switch {
	case !f.started:
		return f.header()
	case !f.last:
		return f.block()
	case f.checksum > 0:
		f.left, f.checksum = f.checksum, 0
		return nil
	}
	if _, err := f.r.Peek(1); err != nil {
		return err //nolint:wrapcheck // io.EOF where all is well
	}
	return errors.New("something follows the compressed archive")
}

func (f *oneFrame) header() error {
	data, _ := f.r.Peek(zstd.HeaderMaxSize) // a short file has less
	var h zstd.Header
	if err := h.Decode(data); err != nil || h.Skippable {
		return errors.New("not a zstd frame")
	}
	f.started = true
	f.left = int64(h.HeaderSize)
	if h.HasCheckSum {
		f.checksum = 4
	}
	return nil
}

func (f *oneFrame) block() error {
	b, err := f.r.Peek(3)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	header := int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16
	f.last = header&1 == 1
	size := header >> 3
	if kind := header >> 1 & 3; kind == 1 { // one byte, repeated
		size = 1
	}
	f.left = 3 + size
	return nil
}
