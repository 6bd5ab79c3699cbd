package s3

import (
	"context"
	"errors"
	"io"
	"time"
)

// errStalled is why a request was given up whose body brought nothing for too long.
var errStalled = errors.New("the body stalled")

// watched is a body that is given up when it brings nothing for a while: the
// SDK bounds the wait for the headers only.
type watched struct {
	body   io.ReadCloser
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func watch(body io.ReadCloser, limit time.Duration, cancel context.CancelCauseFunc) *watched {
	timer := time.AfterFunc(limit, func() { cancel(errStalled) })
	timer.Stop() // it runs during reads alone
	return &watched{body: body, limit: limit, timer: timer, cancel: cancel}
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.limit)
	n, err := w.body.Read(p)
	if !w.timer.Stop() && err != nil && !errors.Is(err, io.EOF) {
		err = errors.Join(errStalled, err)
	}
	return n, err
}

// Close ends the request.
func (w *watched) Close() error {
	w.timer.Stop()
	err := w.body.Close()
	w.cancel(nil)
	return err //nolint:wrapcheck // a body's own error
}
