package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
)

// The verbs that write a HostOverride. What stands in it beside is kept, and
// resume rewrites it: a host that once adopted one goes by it until it is gone.

func (c *cli) suspendCommand() *cobra.Command {
	var length time.Duration
	var reason string
	cmd := &cobra.Command{
		Use:   "suspend HOST… --reason WHY",
		Short: "Start nothing new on hosts, until resume or for a while",
		Long: "Suspend hosts through their HostOverride, which no sync from git undoes. What is under way\n" +
			"is ended first; hosts go on observing and reporting. They see it at their next look.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return fmt.Errorf("%w: npcnix suspend: say why with --reason", errUsage)
			}
			if length < 0 || (cmd.Flags().Changed("for") && length == 0) {
				return fmt.Errorf("%w: --for %s: expected a duration such as 2h", errUsage, length)
			}
			return c.suspend(cmd.Context(), args, reason, length)
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "end it by itself after this time, such as 2h (default: until resume)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever asks (required)")
	return cmd
}

func (c *cli) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume HOST…",
		Short: "Lift what suspend did",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return c.resume(cmd.Context(), args) },
	}
}

func (c *cli) reconcileCommand() *cobra.Command {
	var retry bool
	var openUntil string
	cmd := &cobra.Command{
		Use:   "reconcile HOST…",
		Short: "Ask hosts to try again now, whatever they wait for but their window",
		Long: "Hosts see it at their next look. With --retry they also forget quarantine, used-up attempts\n" +
			"and a boot into another system. With --open-window-until their window counts as open until\n" +
			"then, unless an entry of deny is active.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var until *meta.Time
			if openUntil != "" {
				t, err := time.Parse(time.RFC3339, openUntil)
				if err != nil || !t.After(c.now()) {
					return fmt.Errorf("%w: --open-window-until %s: expected an instant to come, such as 2026-11-22T12:00:00Z", errUsage, openUntil)
				}
				until = new(meta.NewTime(t))
			}
			return c.reconcile(cmd.Context(), args, retry, until)
		},
	}
	cmd.Flags().BoolVar(&retry, "retry", false, "also try again what was given up")
	cmd.Flags().StringVar(&openUntil, "open-window-until", "", "open the maintenance window until this instant, such as 2026-11-22T12:00:00Z")
	return cmd
}

// openHosts opens the store, and reads the hosts to see that they are there: an
// override of a name that was mistyped would do nothing, silently.
func (c *cli) openHosts(ctx context.Context, names []string) (store.Store, fleet, error) { //nolint:ireturn // whichever store it is
	s, err := c.open(ctx)
	if err != nil {
		return nil, fleet{}, err
	}
	f, err := c.readFleet(ctx, s, names)
	if err != nil {
		return nil, f, err
	}
	return s, f, f.check()
}

func (c *cli) suspend(ctx context.Context, names []string, reason string, length time.Duration) error {
	s, _, err := c.openHosts(ctx, names)
	if err != nil {
		return err
	}
	suspended, words := &v1alpha1.Suspend{Reason: reason}, "suspended"
	if length > 0 {
		suspended.Until = new(meta.NewTime(c.now().Add(length)))
		words += " until " + suspended.Until.UTC().Format(time.RFC3339)
	}
	for _, name := range names {
		err := changeOverride(ctx, s, name, func(o *v1alpha1.HostOverrideSpec) { o.Suspend = suspended })
		if err != nil {
			return err
		}
		if err := c.print("host/%s %s", name, words); err != nil {
			return err
		}
	}
	return nil
}

func (c *cli) resume(ctx context.Context, names []string) error {
	s, f, err := c.openHosts(ctx, names)
	if err != nil {
		return err
	}
	for _, h := range f.hosts {
		name := h.view.Metadata.Name
		words := "resumed"
		if h.view.Override == nil || h.view.Override.Suspend == nil {
			words = "was not suspended by its HostOverride"
		} else if err := changeOverride(ctx, s, name, func(o *v1alpha1.HostOverrideSpec) { o.Suspend = nil }); err != nil {
			return err
		}
		if err := c.print("host/%s %s", name, words); err != nil {
			return err
		}
		h.view.Override = nil
		if by := h.suspendedBy(c.now()); by != "" {
			c.note("%s stays suspended %s", name, by)
		}
	}
	return nil
}

func (c *cli) reconcile(ctx context.Context, names []string, retry bool, openUntil *meta.Time) error {
	s, f, err := c.openHosts(ctx, names)
	if err != nil {
		return err
	}
	for _, h := range f.hosts {
		if by := h.suspendedBy(c.now()); by != "" {
			return fmt.Errorf("%w: host %s is suspended %s, so nothing would happen; lift that first: npcnix resume, spec.suspend in its HostSpec, or npcnix-reconciler resume on the host", errRefused, h.view.Metadata.Name, by)
		}
	}
	for _, h := range f.hosts {
		name := h.view.Metadata.Name
		err := changeOverride(ctx, s, name, func(o *v1alpha1.HostOverrideSpec) {
			o.ReconcileRequestedAt = c.anew(o.ReconcileRequestedAt)
			if retry {
				o.RetryRequestedAt = c.anew(o.RetryRequestedAt)
			}
			if openUntil != nil {
				o.OpenWindowUntil = openUntil
			}
		})
		if err != nil {
			return err
		}
		if err := c.print("host/%s asked to reconcile", name); err != nil {
			return err
		}
	}
	return nil
}

// anew is now, or a second later than what was asked before: another value is
// another request.
func (c *cli) anew(before *meta.Time) *meta.Time {
	now := meta.NewTime(c.now())
	if before != nil && !now.After(before.Time) {
		now = meta.NewTime(before.Add(time.Second))
	}
	return &now
}

// suspendedBy says what suspends a host at now, as far as its documents tell,
// and its status of a person on the host; empty if nothing does.
func (h fleetHost) suspendedBy(now time.Time) string {
	active := func(s *v1alpha1.Suspend) bool { return s != nil && (s.Until == nil || now.Before(s.Until.Time)) }
	switch {
	case h.view.Spec != nil && active(h.view.Spec.Suspend):
		return because("by its HostSpec", h.view.Spec.Suspend.Reason)
	case h.view.Override != nil && active(h.view.Override.Suspend):
		return because("by its HostOverride", h.view.Override.Suspend.Reason)
	}
	if s := h.view.Status; s != nil && s.LocalSuspension != nil && active(s.LocalSuspension) {
		return because("on the host", s.LocalSuspension.Reason)
	}
	return ""
}

func because(by, reason string) string {
	if reason == "" {
		return by
	}
	return by + " (" + reason + ")"
}

// changeOverride changes a host's HostOverride, and makes it where there is
// none. One that is not fully understood is not written over.
func changeOverride(ctx context.Context, s store.Store, name string, change func(o *v1alpha1.HostOverrideSpec)) error {
	key := store.OverrideKey(name)
	return document.Update(ctx, s, key, func(present []byte) ([]byte, error) {
		override := &v1alpha1.HostOverride{
			TypeMeta: meta.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindHostOverride}, Metadata: meta.ObjectMeta{Name: name},
		}
		if present != nil {
			docs, err := codec.Split(key, present)
			if err == nil && len(docs) != 1 {
				err = fmt.Errorf("%w: %s has %d documents, as a signed one has: it is not changed without a key", errRefused, key, len(docs))
			}
			if err == nil {
				override, err = codec.DecodeStrict[v1alpha1.HostOverride](docs[0], v1alpha1.KindHostOverride)
			}
			if err != nil {
				return nil, err
			}
		}
		change(&override.Spec)
		return codec.Encode(override)
	})
}
