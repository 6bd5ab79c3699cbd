package reconciler

import (
	"errors"
	"fmt"
	"time"
)

// ErrLimit is the cause of a context that ended because one call took longer
// than Options.Limit.
var ErrLimit = errors.New("reconciling took longer than its limit")

// ErrPanic wraps what a function panicked with.
var ErrPanic = errors.New("panic")

// WaitError asks for another call after a while. It is no failure.
type WaitError struct {
	Reason string
	After  time.Duration
}

// Error says how long and why.
func (e *WaitError) Error() string { return fmt.Sprintf("wait %s: %s", e.After, e.Reason) }

// Wait returns an error that asks for another call after a while.
func Wait(reason string, after time.Duration) error { return &WaitError{Reason: reason, After: after} }

type terminalError struct{ error }

func (e terminalError) Unwrap() error { return e.error }

// Terminal returns an error that asks for no other call until Add.
func Terminal(err error) error { return terminalError{err} }
