package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
)

func (c *cli) deleteCommand() *cobra.Command {
	var purge, force bool
	host := &cobra.Command{
		Use: "host NAME", Aliases: []string{"hosts"},
		Short: "Delete a host's HostSpec and HostOverride; the host keeps what it runs",
		Args:  exactly("name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.deleteHost(cmd.Context(), hostNames(args)[0], purge)
		},
	}
	host.Flags().BoolVar(&purge, "purge", false, "also delete the host's status, so that it is not listed any more")
	remote := &cobra.Command{
		Use: "remote NAME", Aliases: []string{"remotes"},
		Short: "Delete a remote; its history and archives stay",
		Args:  exactly("name"),
		RunE:  func(cmd *cobra.Command, args []string) error { return c.deleteRemote(cmd.Context(), args[0], force) },
	}
	remote.Flags().BoolVar(&force, "force", false, "delete it even while hosts follow it")
	return group("delete", "Delete a host's declaration, or a remote", host, remote)
}

func (c *cli) deleteHost(ctx context.Context, name string, purge bool) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	keys := []string{store.HostSpecKey(name), store.OverrideKey(name)}
	if purge {
		keys = append(keys, store.StatusKey(name))
	}
	deleted := 0
	for _, key := range keys {
		present, err := document.Read(ctx, s, key, "")
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil || errors.Is(err, store.ErrTooLarge) {
			err = s.Delete(ctx, key)
		}
		if err != nil {
			return err
		}
		if was := suspendedBy(present.Data, c.now()); key == store.OverrideKey(name) && was != "" {
			c.note("host/%s: it was suspended %s, which is deleted too", name, was)
		}
		deleted++
	}
	if deleted == 0 {
		return fmt.Errorf("host %s: %w: it is not declared; --purge deletes what it reported", name, errNotFound)
	}
	return c.print("host/%s deleted", name)
}

func (c *cli) deleteRemote(ctx context.Context, name string, force bool) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	if !force {
		users, err := c.followers(ctx, s, name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return fmt.Errorf("%w: remote %s is followed by %s; point them elsewhere first, or use --force", errRefused, name, strings.Join(users, ", "))
		}
	}
	if err := document.Unpublish(ctx, s, name, force); err != nil {
		return fmt.Errorf("remote %s: %w", name, err)
	}
	return c.print("remote/%s deleted", name)
}

// followers returns the hosts whose spec names the remote. A spec that cannot
// be read may do so.
func (c *cli) followers(ctx context.Context, s store.Store, remote string) ([]string, error) {
	fleet, err := c.readFleet(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, h := range fleet.hosts {
		if h.specUnreadable || (h.view.Spec != nil && h.view.Spec.Remote == remote) {
			names = append(names, h.view.Metadata.Name)
		}
	}
	return names, nil
}
