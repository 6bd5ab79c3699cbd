package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/window"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
)

// The verbs that write a HostOverride. What stands in it beside is kept, and
// resume rewrites it: a host that once adopted one goes by it until it is gone.

func (c *cli) suspendCommand() *cobra.Command {
	var length time.Duration
	var reason, until string
	var hosts chosen
	cmd := &cobra.Command{
		Use:   "suspend (HOST… | -l SELECTOR | --all) --reason WHY",
		Short: "Start nothing new on hosts, until resume or for a while",
		Long: "Suspend hosts through their HostOverride, which no sync from git undoes. What is under way\n" +
			"is ended first; hosts go on observing and reporting. They see it at their next look. What\n" +
			"suspend did before is replaced, but with -l and --all where it lasts longer.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return fmt.Errorf("%w: npcnix suspend: say why with --reason", errUsage)
			}
			if length < 0 || (cmd.Flags().Changed("for") && length == 0) {
				return fmt.Errorf("%w: --for %s: expected a duration such as 2h", errUsage, length)
			}
			end, err := c.suspensionEnd(length, until)
			if err != nil {
				return err
			}
			hosts.names = args
			return c.suspend(cmd.Context(), hosts, &v1alpha1.Suspend{Reason: reason, Until: end})
		},
	}
	hosts.flags(cmd)
	cmd.Flags().DurationVar(&length, "for", 0, "end it by itself after this time, such as 2h (default: until resume)")
	cmd.Flags().StringVar(&until, "until", "", "end it by itself at this instant, such as 2026-11-22T12:00:00Z")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever asks (required)")
	return cmd
}

// suspensionEnd is when a suspension ends by itself, nil for never.
func (c *cli) suspensionEnd(length time.Duration, until string) (*meta.Time, error) {
	switch {
	case length > 0 && until != "":
		return nil, fmt.Errorf("%w: --for and --until: one or the other", errUsage)
	case length > 0:
		return new(meta.NewTime(c.now().Add(length))), nil
	case until == "":
		return nil, nil //nolint:nilnil // it does not end by itself
	}
	return c.instantToCome("--until", until)
}

// instantToCome reads the instant that a flag names, or a time from now on.
func (c *cli) instantToCome(flag, text string) (*meta.Time, error) {
	t, err := instant(text, c.now())
	if err == nil && !t.After(c.now()) {
		err = fmt.Errorf("%s is past", t.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errUsage, flag, err)
	}
	return new(meta.NewTime(t)), nil
}

func (c *cli) resumeCommand() *cobra.Command {
	var hosts chosen
	cmd := &cobra.Command{
		Use:   "resume (HOST… | -l SELECTOR | --all)",
		Short: "Lift what suspend did",
		RunE: func(cmd *cobra.Command, args []string) error {
			hosts.names = args
			return c.resume(cmd.Context(), hosts)
		},
	}
	hosts.flags(cmd)
	return cmd
}

// request is what reconcile asks of hosts.
type request struct {
	retry, closeWindow, wait bool
	openUntil                *meta.Time
	timeout                  time.Duration // of wait
}

func (c *cli) reconcileCommand() *cobra.Command {
	var asked request
	var hosts chosen
	var openUntil string
	cmd := &cobra.Command{
		Use:   "reconcile (HOST… | -l SELECTOR | --all)",
		Short: "Ask hosts to try again now, whatever they wait for but their window",
		Long: "Hosts see it at their next look. With --retry they also forget quarantine, used-up attempts\n" +
			"and a boot into another system. With --open-window-until their window counts as open until\n" +
			"then, unless an entry of deny is active; --close-window takes that back.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("open-window-until") {
				var err error
				if asked.openUntil, err = c.instantToCome("--open-window-until", openUntil); err != nil {
					return err
				}
			}
			switch f := cmd.Flags(); {
			case asked.openUntil != nil && asked.closeWindow:
				return fmt.Errorf("%w: --open-window-until and --close-window: one or the other", errUsage)
			case f.Changed("timeout") && !asked.wait:
				return fmt.Errorf("%w: --timeout is for --wait", errUsage)
			case asked.timeout <= 0:
				return fmt.Errorf("%w: --timeout %s: expected a duration such as 15m", errUsage, asked.timeout)
			}
			hosts.names = args
			return c.reconcile(cmd.Context(), hosts, asked)
		},
	}
	f := cmd.Flags()
	hosts.flags(cmd)
	f.BoolVar(&asked.retry, "retry", false, "also try again what was given up")
	f.StringVar(&openUntil, "open-window-until", "", "open the maintenance window until this instant, such as 2026-11-22T12:00:00Z, or for a time such as 2h")
	f.BoolVar(&asked.wait, "wait", false, "wait until the hosts have come to something, and fail unless all are Ready")
	f.DurationVar(&asked.timeout, "timeout", 15*time.Minute, "how long --wait waits")
	f.BoolVar(&asked.closeWindow, "close-window", false, "end what --open-window-until did")
	return cmd
}

func (c *cli) suspend(ctx context.Context, hosts chosen, suspend *v1alpha1.Suspend) error {
	s, f, err := c.choose(ctx, hosts)
	if err != nil {
		return err
	}
	words := "suspended"
	if suspend.Until != nil {
		words += " until " + suspend.Until.UTC().Format(time.RFC3339)
	}
	return c.each(ctx, f.hosts, func(ctx context.Context, h fleetHost) (answer, error) {
		a := answer{words: words + ", from its next look on", notes: h.silence(c.now())}
		before, was := h.overridden(c.now())
		if was && len(hosts.names) == 0 && before.outlasts(suspend) { // it was meant for this host
			a.words = "stays suspended " + before.String() + ", which lasts longer"
			return a, nil
		}
		if was {
			a.note("it was suspended %s, which this replaces", before)
		}
		return a, changeOverride(ctx, s, h.view.Metadata.Name, func(o *v1alpha1.HostOverrideSpec) { o.Suspend = suspend })
	})
}

func (c *cli) resume(ctx context.Context, hosts chosen) error {
	s, f, err := c.choose(ctx, hosts)
	if err != nil {
		return err
	}
	return c.each(ctx, f.hosts, func(ctx context.Context, h fleetHost) (answer, error) {
		a := answer{words: "was not suspended by its HostOverride"}
		if h.view.Override != nil || h.overrideUnreadable { // also one that no host adopts, which lifts nothing
			err := changeOverride(ctx, s, h.view.Metadata.Name, func(o *v1alpha1.HostOverrideSpec) {
				a.words = resumed(o.Suspend, c.now())
				o.Suspend = nil
			})
			if err != nil {
				return a, err
			}
		}
		for _, left := range h.suspensions(c.now()) {
			if left.by != byOverride {
				a.note("it stays suspended %s: %s", left, left.lift)
			}
		}
		return a, nil
	})
}

// resumed says what was lifted.
func resumed(was *v1alpha1.Suspend, now time.Time) string {
	switch {
	case was == nil:
		return "was not suspended by its HostOverride"
	case was.Until != nil && !now.Before(was.Until.Time):
		return "resumed; its suspension ended by itself at " + was.Until.UTC().Format(time.RFC3339)
	default:
		return "resumed; it was suspended " + suspension{Suspend: *was, by: byOverride}.String()
	}
}

func (c *cli) reconcile(ctx context.Context, hosts chosen, asked request) error {
	s, f, err := c.choose(ctx, hosts)
	if err != nil {
		return err
	}
	var refused []error
	willing := slices.DeleteFunc(f.hosts, func(h fleetHost) bool {
		errs := h.refusing(asked, c.now())
		refused = append(refused, errs...)
		return len(errs) > 0
	})
	if len(refused) > 0 && len(hosts.names) > 0 {
		return fmt.Errorf("%w, so nobody is asked: %w", errRefused, errors.Join(refused...))
	}
	var mu sync.Mutex
	waits := map[string]*meta.Time{}
	err = c.each(ctx, willing, func(ctx context.Context, h fleetHost) (answer, error) {
		a, at, err := c.reconcileHost(ctx, s, h, asked)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			waits[h.view.Metadata.Name] = at
		}
		return a, err
	})
	if asked.wait {
		err = errors.Join(err, c.wait(ctx, s, waits, asked.timeout))
	}
	if len(refused) > 0 { // of many, the others are asked all the same
		err = errors.Join(err, fmt.Errorf("%w: %w", errRefused, errors.Join(refused...)))
	}
	return err
}

// refusing says what suspends a host, so that asking it is no use. Only closing a
// window is.
func (h fleetHost) refusing(asked request, now time.Time) (errs []error) {
	if asked.closeWindow {
		return nil
	}
	for _, by := range h.suspensions(now) {
		errs = append(errs, fmt.Errorf("host %s is suspended %s, so nothing would happen; lift that first: %s", h.view.Metadata.Name, by, by.lift))
	}
	return errs
}

// reconcileHost asks one host, and tells what will come of it.
func (c *cli) reconcileHost(ctx context.Context, s store.Store, h fleetHost, asked request) (a answer, at *meta.Time, err error) {
	err = changeOverride(ctx, s, h.view.Metadata.Name, func(o *v1alpha1.HostOverrideSpec) {
		a.words = "asked to reconcile"
		o.ReconcileRequestedAt = c.anew(o.ReconcileRequestedAt)
		at = o.ReconcileRequestedAt
		if asked.retry {
			a.words = "asked to retry"
			o.RetryRequestedAt = c.anew(o.RetryRequestedAt)
		}
		a.notes = nil
		switch before := o.OpenWindowUntil; {
		case asked.openUntil != nil:
			if before != nil && before.After(asked.openUntil.Time) {
				a.note("its window was opened until %s, which this replaces", before.UTC().Format(time.RFC3339))
			}
			a.words += ", its window opened until " + asked.openUntil.UTC().Format(time.RFC3339)
			o.OpenWindowUntil = asked.openUntil
		case asked.closeWindow && before == nil:
			a.words += ", its window was not opened"
		case asked.closeWindow:
			a.words += ", its window opened no more"
			o.OpenWindowUntil = nil
		}
	})
	a.notes = slices.Concat(a.notes, h.silence(c.now()), h.vain(asked, c.now()))
	return a, at, err
}

// silence tells of a host that may not see what it is asked for long.
func (h fleetHost) silence(now time.Time) []string {
	if h.view.Spec == nil && !h.specUnreadable {
		return []string{"it is not declared: there is no HostSpec of it"}
	}
	if _, reason, message := h.ready(now); reason == v1alpha1.ReasonSilent || reason == v1alpha1.ReasonNoStatus {
		return []string{message}
	}
	return nil
}

// liftedByRetry are the reasons of hosts that try nothing more until they are
// asked to, or until what is declared changes.
func liftedByRetry(reason string) bool {
	return slices.Contains([]string{
		v1alpha1.ReasonQuarantined, v1alpha1.ReasonRetriesExhausted, v1alpha1.ReasonBootedOther, v1alpha1.ReasonRebootFailed,
		v1alpha1.ReasonArchiveInvalid, v1alpha1.ReasonAttributeNotFound, v1alpha1.ReasonEvaluationFailed, v1alpha1.ReasonNoSwitch,
		v1alpha1.ReasonRootNotSupported, v1alpha1.ReasonRebootRequired,
	}, reason)
}

// vain says what a request will not bring about.
func (h fleetHost) vain(asked request, now time.Time) (notes []string) {
	if _, reason, _ := h.ready(now); !asked.retry && h.stalled() && liftedByRetry(reason) {
		notes = append(notes, "it is "+reason+", which --retry alone lifts")
	}
	if asked.openUntil == nil || h.view.Spec == nil {
		return notes
	}
	spec := h.view.Spec.WithDefaults(h.view.Metadata.Name)
	calendar := window.New(h.view.Metadata.Name, spec.MaintenanceWindow).Opened(now, asked.openUntil.Time)
	j := calendar.At(now)
	switch {
	case spec.MaintenanceWindow == nil:
		notes = append(notes, "it has no maintenanceWindow, so nothing waits for one")
	case j.Reason == window.ReasonZoneUnknown:
		notes = append(notes, "whether its window opens cannot be told here, where the zone "+j.Name+" is not known")
	case j.State == window.Closed:
		notes = append(notes, "its window stays closed while "+whyWindow(j))
	default:
		notes = append(notes, late(spec, j, now)...)
	}
	return notes
}

func (h fleetHost) stalled() bool {
	return h.view.Status != nil && meta.IsTrue(h.view.Status.Conditions, v1alpha1.ConditionStalled)
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
