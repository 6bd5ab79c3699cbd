package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/npcnix/npcnix/cmd/exitcode"
	"github.com/npcnix/npcnix/config"
	"github.com/npcnix/npcnix/nixos/local"
	"github.com/npcnix/npcnix/nixos/systemd"
	"github.com/npcnix/npcnix/reconciler/redact"
	"github.com/npcnix/npcnix/reconciler/statefile"
	"github.com/npcnix/npcnix/reconciler/transaction"
)

const (
	// guardTries is how often a guard without a service manager tries, at
	// guardPause from each other; with one, it is started anew instead.
	guardTries = 60
	guardPause = 5 * time.Second
)

// guard is the verb by which the guard of a transaction is started.
func guard(ctx context.Context, args []string, w world) int {
	f := flag.NewFlagSet("npcnix-reconciler guard", flag.ContinueOnError)
	f.SetOutput(w.stderr)
	root := f.String("root", "/", "directory that stands for /")
	after := f.Duration("after", 0, "wait before acting; SIGTERM ends it")
	boot := f.Bool("boot", false, "guard the boot of a staged system instead of a switch")
	if err := f.Parse(args); err != nil || f.NArg() != 1 {
		return exitcode.BadUsage
	}
	log := newLog(config.Log{Format: "console"}, w.stderr, redact.New(secrets(os.Environ())...)).WithValues("guard", filepath.Base(f.Arg(0)))
	if *after > 0 && !sleep(ctx, *after) {
		return exitcode.OK
	}
	tries := 1
	if !systemd.Booted() || *root != "/" {
		tries = guardTries
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP) // what has begun is ended
		ctx = context.WithoutCancel(ctx)
	}
	for range tries {
		err := runGuard(ctx, f.Arg(0), *root, *boot, w, log)
		switch {
		case err == nil:
			return exitcode.OK
		case errors.Is(err, transaction.ErrTooNew), errors.Is(err, os.ErrNotExist), errors.Is(err, statefile.ErrUnusable):
			log.Error(err, "Nothing to guard")
			return exitcode.OK
		}
		log.Error(err, "Could not end the transaction")
		if tries > 1 && !sleep(ctx, guardPause) {
			break
		}
	}
	return exitcode.Internal
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func runGuard(ctx context.Context, dir, root string, boot bool, w world, log logr.Logger) error {
	t, err := transaction.Open(dir)
	if err != nil {
		return err
	}
	own, err := local.Executable()
	if err != nil {
		return err
	}
	state := filepath.Dir(filepath.Dir(dir))
	machine, err := local.New(ctx, local.Options{
		Root: root, StateDir: state, CacheDir: filepath.Join(state, "cache"), Executable: own,
		Checks: t.Plan.Checks, RemoteChecks: t.Plan.RemoteChecks,
	})
	if err != nil {
		return err
	}
	defer machine.Close()
	log.Info("Acting", "target", t.Plan.Target, "recorded", t.Plan.Recorded.Running, "boot", boot)
	act := t.RunGuard
	if boot {
		act = t.RunBootGuard
	}
	o, err := act(ctx, machine, w.now)
	if err != nil {
		return fmt.Errorf("guard %s: %w", t.Plan.ID, err)
	}
	log.Info("Ended", "outcome", o.Kind, "by", o.By, "reason", o.Problem.Reason, "message", o.Message)
	if t.Plan.AgentRemoved && o.Kind == transaction.Committed { // no agent tidies up
		err = errors.Join(machine.Disarm(ctx, t.Plan.ID), machine.Unroot(t.Plan.ID), machine.Unroot(t.Plan.ID+".guard"))
	}
	return err
}
