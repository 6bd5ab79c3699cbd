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

// lockRetry is how often a held lock is tried again.
const lockRetry = 100 * time.Millisecond

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
		return l.end(Committed, Problem{}, "The system was committed.", false)
	}
	return f(l)
}

// end writes the outcome.
func (l *locked) end(kind Kind, p Problem, message string, uncertain bool) (Outcome, error) {
	o := Outcome{
		FormatVersion: planVersion, Kind: kind, At: l.now(), By: l.by, Problem: p, Message: message, BootDefaultUncertain: uncertain,
	}
	if err := statefile.WriteJSON(filepath.Join(l.dir, outcomeFile), o); err != nil {
		return Outcome{}, fmt.Errorf("write outcome: %w", err)
	}
	return o, nil
}
