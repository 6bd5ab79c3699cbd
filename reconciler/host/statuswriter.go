package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
)

// errDuplicateHost is returned while another machine reports under this host's name.
var errDuplicateHost = errors.New("another machine reports under this name")

// statusWriter puts the host's status, and sees to it that no other machine does.
type statusWriter struct {
	key       string
	machineID string

	// mu is held by whoever reads or writes the status: a heartbeat comes while
	// a switch is confirmed.
	mu    sync.Mutex
	store store.Store

	// claimed says that the status in the store is ours, or absent; then etag
	// and data are what it is, empty if absent.
	claimed bool
	// assumed says that a refusal was taken for absence, and nothing was put since.
	assumed bool
	etag    string
	data    []byte
	putAt   time.Time
	// last is the status as it was last read or put, for what carries on.
	last *v1alpha1.HostStatus
	// unsure says that a write failed since, which may have been carried out all
	// the same: data may not be what is in the store.
	unsure bool
}

// claim looks at the status in the store until it is known to be ours to write:
// absent, of this machine, or of one that has been silent for three heartbeats.
func (w *statusWriter) claim(ctx context.Context, now time.Time) error {
	if w.claimed {
		return nil
	}
	raw, err := document.Read(ctx, w.store, w.key, "")
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrAccessDenied):
		// Absent, which a caller that may not list is told as 403. If it is
		// not, creating it fails.
		w.claimed, w.etag, w.data, w.last = true, "", nil, nil
		w.assumed = errors.Is(err, store.ErrAccessDenied)
		return nil
	case err != nil && !errors.Is(err, store.ErrTooLarge):
		return err
	}
	status, err := codec.DecodeLenient[v1alpha1.HostStatus](codec.Document{Source: w.key, Raw: raw.Data}, v1alpha1.KindHostStatus)
	if err != nil {
		status = nil // not of any agent: it is overwritten
	}
	if status != nil && status.Status.Agent.MachineID != w.machineID {
		if age := now.Sub(raw.LastModified); age < 3*Heartbeat {
			return fmt.Errorf("%w: %s", errDuplicateHost, duplicate(w.key, raw.LastModified, status.Status.Agent.MachineID, w.machineID))
		}
		status = nil // reinstalled: what the old machine said does not carry on
	}
	w.claimed, w.etag, w.data, w.last = true, raw.ETag, raw.Data, status
	w.putAt = raw.LastModified
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// put writes the status if it differs from the one in the store, or as a
// heartbeat. That needs no look of its own: it comes with the look that is
// nearest to its time, next being how far the looks are apart.
func (w *statusWriter) put(ctx context.Context, status *v1alpha1.HostStatus, now time.Time, next time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := passed(w.putAt, now, Heartbeat-next/2)
	same := reflect.DeepEqual(status, w.last)
	if same && !due && !w.unsure {
		return nil // nothing is encoded to find that out
	}
	data := w.data
	if !same {
		var err error
		if data, err = encodeStatus(status); err != nil {
			return err
		}
	}
	if due || w.unsure || !bytes.Equal(data, w.data) {
		if err := w.replace(ctx, data, now); err != nil {
			return err
		}
	}
	w.last = status
	return nil
}

// beat puts the same bytes again, so that the host is not taken for silent
// while it is busy.
func (w *statusWriter) beat(ctx context.Context, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.claimed || w.data == nil {
		return nil
	}
	return w.replace(ctx, w.data, now)
}

func (w *statusWriter) replace(ctx context.Context, data []byte, now time.Time) error {
	etag, err := w.write(ctx, data)
	if errors.Is(err, store.ErrConflict) {
		etag, err = w.resolve(ctx, data, now)
	}
	if w.unsure = err != nil; err != nil {
		return err
	}
	w.etag, w.data, w.putAt, w.assumed = etag, data, now, false
	return nil
}

func (w *statusWriter) write(ctx context.Context, data []byte) (string, error) {
	return w.store.Put(ctx, w.key, bytes.NewReader(data), store.PutOptions{IfAbsent: w.etag == "", IfMatch: w.etag})
}

// resolve finds out who won: this very write, whose reply was lost; an earlier
// one of this machine; nobody, if the status was deleted; or another machine.
func (w *statusWriter) resolve(ctx context.Context, data []byte, now time.Time) (string, error) {
	w.claimed = false
	if err := w.claim(ctx, now); err != nil {
		return "", err
	}
	if bytes.Equal(w.data, data) {
		return w.etag, nil
	}
	return w.write(ctx, data)
}

// encodeStatus keeps the status within its limit.
func encodeStatus(status *v1alpha1.HostStatus) ([]byte, error) {
	for {
		data, err := codec.Encode(status)
		if err != nil {
			return nil, err
		}
		history := &status.Status.History
		if len(data) <= v1alpha1.MaxStatusSize || len(*history) == 0 {
			return data, nil
		}
		*history = (*history)[:len(*history)-1]
	}
}

func (r *Reconciler) claim(ctx context.Context, _ *pass) error {
	r.status.mu.Lock()
	defer r.status.mu.Unlock()
	return r.status.claim(ctx, r.opts.Now())
}
