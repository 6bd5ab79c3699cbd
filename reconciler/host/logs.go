package host

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/store"
)

// maxLogPart bounds what is kept of each program's output, in bytes.
const maxLogPart = 256 << 10

// logged are the runs of stc whose output goes into an attempt's log, in the
// order in which they are made.
func logged() []string {
	return []string{transaction.SwitchRun, "dry", "boot-1", "boot-2", "boot-3", "rollback-1", "rollback-2", "rollback-3", "boot-back-1"}
}

// buildLog is where the end of what Nix printed is kept.
func (r *Reconciler) buildLog(attempt string) string {
	return filepath.Join(r.opts.StateDir, "logs", attempt+".build")
}

// putLog puts the output of the newest attempt into the host's ring of logs,
// once it has ended. That it cannot be put holds nothing up, and is tried again
// with the next heartbeat.
func (r *Reconciler) putLog(ctx context.Context, p *pass) {
	j, now := r.journal, r.opts.Now()
	if j == nil || j.Attempt == nil || j.open() || j.Attempt.Log != nil || !r.status.claimed || p.storeFailed {
		return
	}
	if r.logTried == j.Attempt.ID && now.Sub(r.logTriedAt) < Heartbeat {
		return
	}
	r.logTried, r.logTriedAt = j.Attempt.ID, now
	text := r.attemptLog(j.Attempt.ID)
	if len(text) == 0 {
		return
	}
	if err := r.putLogText(ctx, text); err != nil {
		r.opts.Log.Info("Could not put the log of an attempt", "host", r.opts.Host, "attempt", j.Attempt.ID, "error", err.Error())
	}
}

func (r *Reconciler) putLogText(ctx context.Context, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	data := encoder.EncodeAll(text, nil)
	j := r.journal
	slot := j.LogSlot % v1alpha1.LogSlots
	if _, err := r.opts.Store.Put(ctx, store.LogKey(r.opts.Host, slot), bytes.NewReader(data), store.PutOptions{}); err != nil {
		return err
	}
	j.LogSlot = (slot + 1) % v1alpha1.LogSlots
	j.Attempt.Log = &v1alpha1.AttemptLog{Slot: slot, Digest: codec.Digest(data)}
	return r.save()
}

// attemptLog joins what the programs of an attempt printed.
func (r *Reconciler) attemptLog(attempt string) []byte {
	var text bytes.Buffer
	add := func(name string, output []byte) {
		if len(bytes.TrimSpace(output)) > 0 {
			_, _ = fmt.Fprintf(&text, "== %s\n%s\n", name, bytes.TrimRight(output, "\n")) // a buffer never fails
		}
	}
	if data, err := os.ReadFile(r.buildLog(attempt)); err == nil { // else there was no build
		add("build", data[max(0, len(data)-maxLogPart):])
	}
	for _, run := range logged() {
		add(run, r.opts.Activator.Output(transaction.RunID(attempt, run), maxLogPart))
	}
	return r.opts.Redact.Bytes(text.Bytes())
}

// logState is when the newest log was tried to be put.
type logState struct {
	logTried   string
	logTriedAt time.Time
}
