package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store"
)

func isUnreadable(err error) bool { return errors.Is(err, errUnreadable) }

func (c *cli) describeCommand() *cobra.Command {
	return group("describe", "Tell everything about a host or a remote",
		&cobra.Command{
			Use: "host NAME", Aliases: []string{"hosts"}, Short: "Tell what a host shall run, what it runs, and why", Args: exactly("name"),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.describeHost(cmd.Context(), hostNames(args)[0])
			},
		},
		&cobra.Command{
			Use: "remote NAME", Aliases: []string{"remotes"}, Short: "Tell what a remote consists of, and its history", Args: exactly("name"),
			RunE: func(cmd *cobra.Command, args []string) error { return c.describeRemote(cmd.Context(), args[0]) },
		},
	)
}

// description collects lines of "Name:  value".
type description struct{ lines []string }

func (d *description) add(name, value string) {
	if name != "" {
		name += ":"
	}
	if value != "" {
		d.lines = append(d.lines, fmt.Sprintf("%-14s %s", name, strings.ReplaceAll(strings.TrimSpace(printable(value)), "\n", "\n               ")))
	}
}

func (d *description) print(w io.Writer) error {
	if _, err := fmt.Fprintln(w, strings.Join(d.lines, "\n")); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (c *cli) describeHost(ctx context.Context, name string) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	f, err := c.readFleet(ctx, s, []string{name})
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	h := f.hosts[0]
	var d description
	status, reason, message := h.ready(c.now())
	d.add("Name", name)
	d.add("Labels", labelText(h.view.Metadata.Labels))
	d.add("Ready", fmt.Sprintf("%s (%s)", status, reason))
	d.add("Message", message)
	if s := h.view.Status; s != nil && s.ReadySince != nil && status == meta.True {
		d.add("Since", c.when(s.ReadySince.Time))
	}
	if h.view.LastSeen != nil {
		d.add("Seen", c.when(h.view.LastSeen.Time))
	}
	c.describeOverride(&d, h)
	c.describeWindow(&d, h)
	d.add("Remote", h.remote())
	generation, revision := h.running()
	if generation > 0 {
		d.add("Runs", strings.TrimSpace(fmt.Sprintf("generation %d %s", generation, revision)))
	}
	if h.view.Status != nil && h.view.Status.Observed.Remote != nil {
		r := h.view.Status.Observed.Remote
		d.add("Newest seen", strings.TrimSpace(fmt.Sprintf("generation %d %s", r.Generation, v1alpha1.FullRevision(r.Revision, r.Dirty))))
	}
	if h.view.Status != nil {
		c.describeStatus(&d, h.view.Status)
	}
	return d.print(c.out)
}

// describeOverride tells what operators ask of a host now, and what the host
// took up.
func (c *cli) describeOverride(d *description, h fleetHost) {
	for _, s := range h.suspensions(c.now()) {
		text := s.String()
		if !s.seen {
			text += ", which it has not seen yet"
		}
		d.add("Suspended", text)
	}
	handled := v1alpha1.Handled{}
	if s := h.view.Status; s != nil && s.Handled != nil {
		handled = *s.Handled
	}
	if o := h.view.Override; o != nil {
		d.add("Asked", c.request("to reconcile", o.ReconcileRequestedAt, handled.ReconcileRequestedAt))
		d.add("Asked", c.request("to retry", o.RetryRequestedAt, handled.RetryRequestedAt))
		if until := o.OpenWindowUntil; until != nil && c.now().Before(until.Time) && (h.view.Spec == nil || h.view.Spec.MaintenanceWindow != nil) {
			text := "its window, until " + until.UTC().Format(time.RFC3339)
			if !h.overrideSeen() {
				text += ", which it has not seen yet"
			}
			d.add("Opened", text)
		}
	}
}

// describeWindow tells what the host said of its window, if it has one.
func (c *cli) describeWindow(d *description, h fleetHost) {
	if s := h.view.Status; s != nil && s.Window != nil && h.view.Spec != nil && h.view.Spec.MaintenanceWindow != nil {
		text := s.Window.String()
		if t := s.Window.ChangesAt(); t != nil && c.terminal {
			text += ", in " + left(t.Sub(c.now()))
		}
		d.add("Window", text)
	}
}

// request says when something was asked, and whether the host took it up.
func (c *cli) request(what string, asked, handled *meta.Time) string {
	switch {
	case asked == nil:
		return ""
	case handled != nil && handled.Equal(asked.Time):
		return fmt.Sprintf("%s at %s, which it took up", what, asked.UTC().Format(time.RFC3339))
	default:
		return fmt.Sprintf("%s at %s, which it has not seen yet", what, asked.UTC().Format(time.RFC3339))
	}
}

// ahead shows an instant to come, and on a terminal how far off it is.
func (c *cli) ahead(t time.Time) string {
	s := t.UTC().Format(time.RFC3339)
	if c.terminal {
		s += ", in " + left(t.Sub(c.now()))
	}
	return s
}

func (c *cli) describeAttempts(d *description, s *v1alpha1.HostStatusStatus) {
	line := func(a v1alpha1.Attempt) string {
		return fmt.Sprintf("%s: number %d at generation %d: %s %s", c.when(a.StartedAt.Time), a.Attempt, a.RemoteGeneration, a.Outcome, a.Reason)
	}
	if a := s.LastAttempt; a != nil {
		d.add("Last attempt", line(*a))
		d.add("", a.Message)
		d.add("Failed units", strings.Join(a.NewlyFailedUnits, ", "))
		if a.BootDefaultUncertain {
			d.add("Boot default", "uncertain: look at it before the host is rebooted")
		}
		for _, change := range a.Changes {
			d.add("Change", change)
		}
		if a.Log != nil {
			d.add("Log", fmt.Sprintf("slot %d; npcnix logs shows it", a.Log.Slot))
		}
	}
	for _, a := range s.History {
		d.add("Before that", line(a))
	}
}

func (c *cli) describeStatus(d *description, s *v1alpha1.HostStatusStatus) {
	if s.Desired != nil {
		d.add("Desired", s.Desired.Toplevel)
		d.add("Attribute", s.Desired.FlakeAttribute)
	}
	if s.System != nil {
		d.add("Running", s.System.Current)
		d.add("Profile", s.System.Profile)
		d.add("Boot default", s.System.BootDefault)
		d.add("Booted", s.System.Booted)
		d.add("Specialisation", s.System.Specialisation)
		d.add("NixOS", s.System.NixOSVersion)
		d.add("Kernel", s.System.Kernel)
	}
	c.describeAttempts(d, s)
	if s.NextAttemptAt != nil {
		d.add("Next attempt", c.ahead(s.NextAttemptAt.Time))
	}
	d.add("Agent", s.Agent.Version)
	d.add("Nix", s.Agent.NixVersion)
	for _, warning := range s.Agent.Warnings {
		d.add("Warning", warning)
	}
	told := map[string]bool{}
	if ready := meta.FindCondition(s.Conditions, v1alpha1.ConditionReady); ready != nil {
		told[ready.Message] = true
	}
	for _, cond := range s.Conditions {
		if notAsWished(cond) {
			d.add("Condition", fmt.Sprintf("%s is %s (%s) since %s", cond.Type, cond.Status, cond.Reason, c.when(cond.LastTransitionTime.Time)))
			if !told[cond.Message] { // several often have one cause
				d.add("", cond.Message)
			}
			told[cond.Message] = true
		}
	}
}

// notAsWished reports whether a condition is worth telling: most are wished to
// be True, the others to be False.
func notAsWished(c meta.Condition) bool {
	switch c.Type {
	case v1alpha1.ConditionReady:
		return false // told at the top
	case v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled, v1alpha1.ConditionSuspended,
		v1alpha1.ConditionRebootRequired, v1alpha1.ConditionClockSkewed:
		return c.Status != meta.False
	default: // what is not reached yet is no fault
		return c.Status == meta.False || (c.Status == meta.Unknown && c.Reason != v1alpha1.ReasonPending)
	}
}

func (c *cli) describeRemote(ctx context.Context, name string) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	remotes, err := c.readRemotes(ctx, s, []string{name})
	if err != nil {
		return err
	}
	if len(remotes) == 0 {
		return fmt.Errorf("%w: remote %s cannot be understood", errRefused, name)
	}
	r := remotes[0]
	var d description
	d.add("Name", name)
	d.add("Labels", labelText(r.Metadata.Labels))
	d.add("Generation", number(r.Metadata.Generation))
	d.add("Published", c.when(r.Spec.PublishedAt.Time))
	d.add("By", r.Spec.PublishedBy)
	if src := r.Spec.Source; src != nil {
		d.add("Repository", src.Repository)
		d.add("Revision", src.Revision)
		if src.Dirty {
			d.add("Dirty", "yes, the tree is that of no commit")
		}
		d.add("Lock file", src.FlakeLockDigest)
	}
	d.add("Archive", fmt.Sprintf("%s, %d bytes", r.Spec.Archive.Digest, r.Spec.Archive.Size))
	d.add("NAR hash", r.Spec.Archive.NarHash)
	followers, err := c.followers(ctx, s, name)
	if err != nil {
		return err
	}
	d.add("Followed by", strings.Join(followers, ", "))
	for info, err := range s.List(ctx, store.HistoryPrefix(name)) {
		if err != nil {
			return err
		}
		if generation, ok := store.Generation(name, info.Key); ok {
			d.add("History", fmt.Sprintf("generation %d, until %s", generation, c.when(info.LastModified)))
		}
	}
	return d.print(c.out)
}

func labelText(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}
