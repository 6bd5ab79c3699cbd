package run

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// pipes carry a command's outputs. They are this package's own, not os/exec's,
// so that the end of a command is seen while something it left behind still
// holds its output.
type pipes struct {
	readers, writers []*os.File
	sinks            []io.Writer
	drained          sync.WaitGroup
}

// add makes a pipe to sink and returns its end for the command.
func (p *pipes) add(sink io.Writer) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	p.readers, p.writers, p.sinks = append(p.readers, r), append(p.writers, w), append(p.sinks, sink)
	return w, nil
}

// drain reads what the command prints, once it has its ends.
func (p *pipes) drain() {
	for i, r := range p.readers {
		_ = p.writers[i].Close() // the command's alone now
		p.drained.Go(func() { _, _ = io.Copy(p.sinks[i], r) })
	}
}

// finish reads what is left, no longer than limit: something that may go on may
// hold the pipes open.
func (p *pipes) finish(limit time.Duration) {
	for _, r := range p.readers {
		_ = r.SetReadDeadline(time.Now().Add(limit)) //nolint:forbidigo // a deadline of the kernel's; pipes have them
	}
	p.drained.Wait()
	for _, r := range p.readers {
		_ = r.Close() // it was only read
	}
}

// close gives up pipes that no command has.
func (p *pipes) close() (err error) {
	for i := range p.readers {
		err = errors.Join(err, p.readers[i].Close(), p.writers[i].Close())
	}
	return err
}
