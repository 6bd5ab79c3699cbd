package main

import (
	"bytes"
	"context"
	"fmt"

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
	return &cobra.Command{
		Use:   "logs HOST",
		Short: "Print what the build and the switch of a host's last attempt printed",
		Args:  exactly("host"),
		RunE:  func(cmd *cobra.Command, args []string) error { return c.logs(cmd.Context(), args[0]) },
	}
}

// logs prints the log that the host's status names: the slot may have been
// overwritten since, which its digest tells.
func (c *cli) logs(ctx context.Context, name string) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	status, _, err := document.Get[v1alpha1.HostStatus](ctx, s, store.StatusKey(name), v1alpha1.KindHostStatus)
	if err != nil {
		return err
	}
	attempt := status.Status.LastAttempt
	if attempt == nil || attempt.Log == nil {
		return fmt.Errorf("%w: the last attempt of %s has no log: nothing was printed, or it has not ended", store.ErrNotFound, name)
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
