package main

import (
	"bytes"
	"context"
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

// logs prints the log that the host's status names: the slot may have been
// overwritten since, which its digest tells.
func (c *cli) logs(ctx context.Context, name string, previous bool) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	status, _, err := document.Get[v1alpha1.HostStatus](ctx, s, store.StatusKey(name), v1alpha1.KindHostStatus)
	if err != nil {
		return err
	}
	attempt, missing := status.Status.LastAttempt, "the last attempt of "+name+" has no log: nothing was printed, or it has not ended"
	if previous {
		attempt, missing = nil, "no attempt of "+name+" before the last has a log"
		if i := slices.IndexFunc(status.Status.History, func(a v1alpha1.Attempt) bool { return a.Log != nil }); i >= 0 {
			attempt = &status.Status.History[i]
		}
	}
	if attempt == nil || attempt.Log == nil {
		return fmt.Errorf("%w: %s", store.ErrNotFound, missing)
	}
	raw, err := document.Read(ctx, s, store.LogKey(name, attempt.Log.Slot), "")
	if err != nil {
		return err
	}
	if codec.Digest(raw.Data) != attempt.Log.Digest {
		return fmt.Errorf("%w: slot %d holds another attempt's log now; ask again", store.ErrConflict, attempt.Log.Slot)
	}
	decoder, err := zstd.NewReader(bytes.NewReader(raw.Data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxLog))
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
