package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
)

// maxLog bounds a log once it is unpacked, in bytes: ten parts of 256 KiB.
const maxLog = 4 << 20

func (c *cli) logsCommand() *cobra.Command {
	var previous bool
	cmd := &cobra.Command{
		Use:   "logs HOST",
		Short: "Print what the build and the switch of a host's last attempt printed",
		Args:  exactly("host"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.logs(cmd.Context(), hostNames(args)[0], previous)
		},
	}
	cmd.Flags().BoolVarP(&previous, "previous", "p", false, "of the newest attempt before the last that has a log")
	return cmd
}

// lastLogged is the newest attempt that has a log, nil if none has.
func lastLogged(history []v1alpha1.Attempt) *v1alpha1.Attempt {
	i := slices.IndexFunc(history, func(a v1alpha1.Attempt) bool { return a.Log != nil })
	if i < 0 {
		return nil
	}
	return &history[i]
}

// loggedAttempt is the last attempt of a host, or the one before that has a log.
func loggedAttempt(ctx context.Context, s store.Store, name string, previous bool) (*v1alpha1.Attempt, error) {
	status, _, err := document.Get[v1alpha1.HostStatus](ctx, s, store.StatusKey(name), v1alpha1.KindHostStatus)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: host %s has never reported", errNotFound, name)
	}
	if err != nil {
		return nil, err
	}
	attempt := status.Status.LastAttempt
	if previous {
		attempt = lastLogged(status.Status.History)
	}
	switch {
	case previous && attempt == nil:
		return nil, fmt.Errorf("%w: no attempt of %s before the last has a log", errNotFound, name)
	case attempt == nil || attempt.Log == nil:
		return nil, fmt.Errorf("%w: the last attempt of %s has no log: nothing was printed, or it has not ended; -p prints that of one before", errNotFound, name)
	}
	return attempt, nil
}

// logs prints the log that the host's status names: the slot may have been
// overwritten since, which its digest tells.
func (c *cli) logs(ctx context.Context, name string, previous bool) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	attempt, err := loggedAttempt(ctx, s, name, previous)
	if err != nil {
		return err
	}
	raw, err := document.Read(ctx, s, store.LogKey(name, attempt.Log.Slot), "")
	if err != nil {
		return err
	}
	if codec.Digest(raw.Data) != attempt.Log.Digest {
		return fmt.Errorf("%w: slot %d holds another attempt's log now; ask again", store.ErrConflict, attempt.Log.Slot)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxLog))
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	defer decoder.Close()
	text, err := decoder.DecodeAll(raw.Data, nil)
	if err != nil {
		return fmt.Errorf("%w: the log of %s cannot be unpacked: %w", errRefused, name, err)
	}
	_, err = fmt.Fprint(c.out, printable(string(text)))
	if err != nil {
		return fmt.Errorf("print log: %w", err)
	}
	return nil
}
