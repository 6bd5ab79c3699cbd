package systemd

import (
	"context"
	"sync"
)

// dials makes connections to a bus, one at a time. Authentication has no limit of
// its own: a dial that hangs is waited for by whoever dials next, and has no other
// one beside it.
type dials[C interface{ Close() }] struct {
	mu      sync.Mutex
	pending chan dialled[C]
}

type dialled[C any] struct {
	conn C
	err  error
}

// dial connects until ctx ends. How an earlier dial failed says nothing of now.
func (d *dials[C]) dial(ctx context.Context, connect func() (C, error)) (C, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		own := d.pending == nil
		if own {
			d.pending = begin(connect)
		}
		select {
		case made := <-d.pending:
			d.pending = nil
			if made.err != nil && !own {
				continue
			}
			return made.conn, made.err
		case <-ctx.Done():
			var none C
			return none, context.Cause(ctx) //nolint:wrapcheck // wrapped by whoever asks
		}
	}
}

func begin[C any](connect func() (C, error)) chan dialled[C] {
	pending := make(chan dialled[C], 1)
	go func() {
		conn, err := connect()
		pending <- dialled[C]{conn, err}
	}()
	return pending
}

// giveUp closes what a dial that still hangs comes to.
func (d *dials[C]) giveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending == nil {
		return
	}
	go func(pending <-chan dialled[C]) {
		if made := <-pending; made.err == nil {
			made.conn.Close()
		}
	}(d.pending)
	d.pending = nil
}
