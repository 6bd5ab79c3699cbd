package archive

import (
	"bufio"
	"io"
	"sync"
)

const (
	aheadChunk  = 1 << 20
	aheadChunks = 4
)

// ahead lets its user write on while a slower writer is still busy, some MiB
// behind: reading files and compressing them take a processor each.
type ahead struct {
	*bufio.Writer

	chunks, free chan []byte
	done         sync.WaitGroup
	err          error // of the slower writer, once done
}

func newAhead(w io.Writer) *ahead {
	a := &ahead{chunks: make(chan []byte, aheadChunks), free: make(chan []byte, aheadChunks)}
	for range aheadChunks {
		a.free <- make([]byte, 0, aheadChunk)
	}
	a.Writer = bufio.NewWriterSize(chunked{a}, aheadChunk)
	a.done.Go(func() {
		for chunk := range a.chunks {
			if a.err == nil {
				_, a.err = w.Write(chunk)
			}
			a.free <- chunk[:0]
		}
	})
	return a
}

// close waits until everything is written and returns the writer's error.
func (a *ahead) close() error {
	err := a.Flush()
	close(a.chunks)
	a.done.Wait()
	if a.err != nil {
		return a.err
	}
	return err //nolint:wrapcheck // a chunk's, which has none
}

// chunked hands chunks over.
type chunked struct{ a *ahead }

func (c chunked) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		chunk := <-c.a.free
		n := min(len(rest), cap(chunk))
		c.a.chunks <- append(chunk, rest[:n]...)
		rest = rest[n:]
	}
	return len(p), nil
}
