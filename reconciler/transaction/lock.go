package transaction

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/npcnix/npcnix/reconciler/statefile"
)

const (
	// lockRetry is how often a held lock is tried again.
	lockRetry = 100 * time.Millisecond
	// outcomeRetry is how often a guard tries to write an outcome.
	outcomeRetry = 5 * time.Second
)

// Who acts on a transaction.
const (
	Agent = "agent"
	Guard = "guard"
)

// locked holds the lock of an open transaction.
type locked struct {
	*Transaction

	m   Machine
	now func() time.Time
	by  string
}

// under runs f under the lock, unless the transaction has ended.
func (t *Transaction) under(ctx context.Context, m Machine, now func() time.Time, by string, f func(l *locked) (Outcome, error)) (o Outcome, err error) {
	lock := flock.New(filepath.Join(t.dir, lockFile))
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return Outcome{}, fmt.Errorf("lock transaction: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	o, ended, err := t.Outcome()
	if err != nil || ended {
		return o, err
	}
	l := &locked{Transaction: t, m: m, now: now, by: by}
	if t.has(committedFile) { // it was killed before it said so
		return l.end(ctx, Outcome{Kind: Committed, Message: "The system was committed."})
	}
	return f(l)
}

// end writes the outcome.
func (l *locked) end(ctx context.Context, o Outcome) (Outcome, error) {
	if ctx.Err() != nil { // what was found may come of being told to stop: the next one goes on
		return Outcome{}, context.Cause(ctx) //nolint:wrapcheck // the caller's own
	}
	o.FormatVersion, o.At, o.By = planVersion, l.now(), l.by
	for {
		err := statefile.WriteJSON(filepath.Join(l.dir, outcomeFile), o)
		if err == nil {
			return o, nil
		}
		err = fmt.Errorf("write outcome: %w", err)
		if l.by == Agent { // which looks again
			return Outcome{}, err
		}
		select { // what the guard found is told once the disk has room
		case <-ctx.Done():
			return Outcome{}, err
		case <-time.After(outcomeRetry):
		}
	}
}
