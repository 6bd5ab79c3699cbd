package systemd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

type line struct{ closed bool }

func (l *line) Close() { l.closed = true }

// A bus that accepts and does not answer has one dial at most, which the next ones
// wait for, and which is closed where nobody wants it any more.
func TestDialThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, made, lines := dials[*line]{}, 0, []*line{}
		answers := make(chan error, 1)
		connect := func() (*line, error) {
			made++
			err := <-answers
			lines = append(lines, &line{})
			return lines[len(lines)-1], err
		}
		dial := func() (*line, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			conn, err := d.dial(ctx, connect)
			synctest.Wait()
			return conn, err
		}
		for range 3 {
			if _, err := dial(); !errors.Is(err, context.DeadlineExceeded) || made != 1 {
				t.Errorf("%v after %d dials", err, made)
			}
		}
		answers <- nil
		if conn, err := dial(); err != nil || conn != lines[0] || made != 1 {
			t.Errorf("%v %v after %d dials", conn, err, made)
		}
		if _, err := dial(); !errors.Is(err, context.DeadlineExceeded) || made != 2 {
			t.Errorf("%v after %d dials", err, made)
		}
		d.giveUp()
		answers <- nil
		synctest.Wait()
		if !lines[1].closed || lines[0].closed {
			t.Errorf("closed: %v %v", lines[0].closed, lines[1].closed)
		}
		if _, err := dial(); !errors.Is(err, context.DeadlineExceeded) || made != 3 {
			t.Errorf("%v after %d dials", err, made)
		}
		answers <- errors.New("end of file") // of what nobody waits for: the next one dials anew
		synctest.Wait()
		answers <- nil
		if conn, err := dial(); err != nil || conn != lines[3] || made != 4 {
			t.Errorf("%v %v after %d dials", conn, err, made)
		}
		refused := errors.New("refused")
		answers <- refused
		if _, err := dial(); !errors.Is(err, refused) || made != 5 {
			t.Errorf("%v after %d dials", err, made)
		}
	})
}
