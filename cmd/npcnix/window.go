package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/window"
)

type windowOptions struct {
	file, at, output string
	next             int
}

func (c *cli) windowCommand() *cobra.Command {
	var o windowOptions
	cmd := &cobra.Command{
		Use:   "window (HOST | -f FILE)",
		Short: "Explain a host's maintenance window: open or closed, why, and when next",
		Long: "Judge the maintenance window of a host, with its override, or of a HostSpec in a file,\n" +
			"for which no store is needed. STARTS is when this host begins to activate, or what else is\n" +
			"gated: at its own part of the splay, and with enough time left; never where an opening is\n" +
			"too short, and no more once it is too late. With -o json, startsAt is null in both cases; in\n" +
			"a window that was open since ever, opensAt is null, and startsAt the instant that is judged.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.window(cmd.Context(), hostNames(args), o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "filename", "f", "", "HostSpec file, or - for standard input; of several, HOST names one")
	f.StringVar(&o.at, "at", "", "instant to judge, such as 2026-11-23T21:00:00Z, or 2h from now (default now)")
	f.IntVar(&o.next, "next", 5, "how many openings to list")
	f.StringVarP(&o.output, "output", "o", "", "json")
	return cmd
}

// windowView is what window -o json prints.
type windowView struct {
	State       window.State  `json:"state"`
	Reason      string        `json:"reason"`
	ClosesAt    *meta.Time    `json:"closesAt"`
	NextOpensAt *meta.Time    `json:"nextOpensAt"`
	Openings    []openingView `json:"openings"`
}

type openingView struct {
	Name     string     `json:"name"`
	OpensAt  *meta.Time `json:"opensAt"`
	StartsAt *meta.Time `json:"startsAt"`
	ClosesAt *meta.Time `json:"closesAt"`
}

const mostOpenings = 1000

// check validates the options, and returns the instant that they name.
func (o windowOptions) check(hosts int, now time.Time) (at time.Time, err error) {
	switch {
	case o.file == "" && hosts == 0:
		return at, fmt.Errorf("%w: npcnix window: expected a HOST or -f FILE", errUsage)
	case o.output != "" && o.output != "json":
		return at, fmt.Errorf("%w: -o %s: expected json", errUsage, o.output)
	case o.next < 0 || o.next > mostOpenings:
		return at, fmt.Errorf("%w: --next %d: expected 0 to %d", errUsage, o.next, mostOpenings)
	case o.at == "":
		return now, nil
	}
	if at, err = instant(o.at, now); err != nil {
		return at, fmt.Errorf("%w: --at: %w", errUsage, err)
	}
	return at, nil
}

// instant reads an instant, or a time from now on.
func instant(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q: expected an instant such as 2026-11-23T21:00:00Z or 2026-11-23T22:00:00+01:00, or a time from now such as 2h", s)
	}
	return t, nil
}

func (c *cli) window(ctx context.Context, args []string, o windowOptions) error {
	at, err := o.check(len(args), c.now())
	if err != nil {
		return err
	}
	h, err := c.windowOf(ctx, args, o.file)
	if err != nil {
		return err
	}
	for _, warning := range window.Warnings(*h.view.Spec, at) {
		c.note("%s", warning)
	}
	name, spec := h.view.Metadata.Name, h.view.Spec.WithDefaults(h.view.Metadata.Name)
	calendar := window.New(name, spec.MaintenanceWindow)
	if o := h.view.Override; o != nil && o.OpenWindowUntil != nil {
		calendar = calendar.Opened(at, o.OpenWindowUntil.Time)
	}
	limit := needed(spec)
	openings := calendar.Openings(at, max(1, o.next), limit)
	if o.output == "json" {
		return c.printObject("json", viewOfWindow(calendar.At(at), openings[:min(len(openings), o.next)], at, limit))
	}
	if err := c.print("%s", windowSentence(name, spec, calendar, at, openings)); err != nil {
		return err
	}
	c.noteOtherwise(h, at)
	if err := c.printOpenings(openings[:min(len(openings), o.next)], calendar.Zone(), at, limit, unnamed(spec)); err != nil {
		return err
	}
	return c.print("\n%s", week(calendar, at))
}

// noteOtherwise tells what a host makes of its window that its documents do not say.
func (c *cli) noteOtherwise(h fleetHost, at time.Time) {
	name := h.view.Metadata.Name
	for _, s := range h.suspensions(at) {
		c.note("%s is suspended %s, so nothing starts", name, s)
	}
	if o := h.view.Override; o != nil && o.OpenWindowUntil != nil && at.Before(o.OpenWindowUntil.Time) && !h.overrideSeen() {
		c.note("%s has not seen its HostOverride yet", name)
	}
	if s := h.view.Status; s != nil && s.Window != nil && s.Window.Reason == window.ReasonClockSkewed {
		c.note("%s says that its clock is off the store's (%s): it takes its window for closed", name, s.Window.Reason)
	}
}

// windowOf reads what the store has of a host, or the HostSpec of a file.
func (c *cli) windowOf(ctx context.Context, args []string, file string) (h fleetHost, err error) {
	if file != "" {
		name, spec, err := c.specOfFile(file, args)
		h.view.Metadata.Name, h.view.Spec = name, &spec
		return h, err
	}
	s, err := c.open(ctx)
	if err != nil {
		return h, err
	}
	h, err = c.readHost(ctx, s, args[0])
	switch {
	case err != nil:
		return h, err
	case h.specUnreadable:
		return h, fmt.Errorf("%w: the HostSpec of %s cannot be understood", errRefused, args[0])
	case h.view.Spec == nil:
		return h, fmt.Errorf("HostSpec of host %s: %w in the store", args[0], errNotFound)
	default:
		return h, nil
	}
}

// specOfFile returns the one HostSpec of a file, or the one that is named.
func (c *cli) specOfFile(file string, names []string) (name string, spec v1alpha1.HostSpecSpec, err error) {
	manifests, err := c.readManifests([]string{file})
	if err != nil {
		return "", spec, err
	}
	found := 0
	for _, m := range manifests {
		if m.kind != v1alpha1.KindHostSpec || (len(names) > 0 && m.name != names[0]) {
			continue
		}
		decoded, err := codec.DecodeStrict[v1alpha1.HostSpec](m.doc, v1alpha1.KindHostSpec)
		if err != nil {
			return "", spec, err
		}
		name, spec = m.name, decoded.Spec
		found++
	}
	switch {
	case found == 1:
		return name, spec, nil
	case found > 1:
		return "", spec, fmt.Errorf("%w: %s has %d HostSpecs: name one, as in npcnix window HOST -f %s", errUsage, file, found, file)
	case len(names) > 0:
		return "", spec, fmt.Errorf("%s: %w: HostSpec of %s", file, errNotFound, names[0])
	default:
		return "", spec, fmt.Errorf("%s: %w: a HostSpec", file, errNotFound)
	}
}

func viewOfWindow(j window.Judgement, openings []window.Opening, at time.Time, limit time.Duration) windowView {
	view := windowView{State: j.State, Reason: j.Reason, ClosesAt: known(j.ClosesAt), NextOpensAt: known(j.NextOpensAt), Openings: []openingView{}}
	for _, o := range openings {
		v := openingView{Name: o.Name, OpensAt: known(o.OpensAt), StartsAt: known(o.StartsAt), ClosesAt: known(o.ClosesAt)}
		switch {
		case tooLate(o, at, limit):
			v.StartsAt = nil
		case o.OpensAt.IsZero():
			v.StartsAt = known(at)
		}
		view.Openings = append(view.Openings, v)
	}
	return view
}

// tooLate reports whether an opening does not leave the limit from an instant on.
func tooLate(o window.Opening, at time.Time, limit time.Duration) bool {
	return !o.ClosesAt.IsZero() && at.Add(limit).After(o.ClosesAt)
}

// known is an instant, nil where there is none.
func known(t time.Time) *meta.Time {
	if t.IsZero() {
		return nil
	}
	return new(meta.NewTime(t))
}

// needed is how much of an opening the host needs: for an activation, or, where
// that does not wait for the window, for the longest of what does.
func needed(spec v1alpha1.HostSpecSpec) (longest time.Duration) {
	for _, need := range window.Needs(spec) {
		if need.Gate == v1alpha1.GateActivate {
			return need.Time
		}
		longest = max(longest, need.Time)
	}
	return longest
}

// unnamed is what is shown of an opening that no entry of allow names.
func unnamed(spec v1alpha1.HostSpecSpec) string {
	if w := spec.MaintenanceWindow; w == nil || len(w.Allow) == 0 {
		return "-" // what deny leaves
	}
	return "(override)"
}

// printOpenings prints a table of them; at is when they are looked at.
func (c *cli) printOpenings(openings []window.Opening, zone *time.Location, at time.Time, limit time.Duration, unnamed string) error {
	if len(openings) == 0 {
		return nil
	}
	if err := c.print(""); err != nil {
		return err
	}
	t := table{w: c.out, terminal: c.terminal}
	for _, o := range openings {
		t.add(cmp.Or(o.Name, unnamed), localTime(o.OpensAt, zone, "before"), starts(o, zone, at, limit), localTime(o.ClosesAt, zone, "not within 370 days"))
	}
	return t.print("NAME", "OPENS", "STARTS", "CLOSES")
}

// starts says when the host starts in an opening, or why it does not.
func starts(o window.Opening, zone *time.Location, at time.Time, limit time.Duration) string {
	switch {
	case o.StartsAt.IsZero() && !o.OpensAt.IsZero():
		return "never: too short"
	case tooLate(o, at, limit):
		return "no more: too late"
	default:
		return localTime(o.StartsAt, zone, "now")
	}
}

func localTime(t time.Time, zone *time.Location, none string) string {
	if t.IsZero() {
		return none
	}
	return t.In(zone).Format("Mon 2006-01-02 15:04:05")
}

// windowSentence says whether the window is open at an instant, why, until when,
// and what it is too late for.
func windowSentence(name string, spec v1alpha1.HostSpecSpec, calendar *window.Calendar, at time.Time, openings []window.Opening) string {
	j, zone := calendar.At(at), calendar.Zone()
	s := fmt.Sprintf("%s is %s at %s (%s)", name, strings.ToLower(string(j.State)), localTime(at, zone, ""), whyWindow(j))
	switch {
	case !j.ClosesAt.IsZero():
		s += fmt.Sprintf("; it closes %s, in %s", localTime(j.ClosesAt, zone, ""), left(j.ClosesAt.Sub(at)))
	case !j.NextOpensAt.IsZero():
		s += fmt.Sprintf("; it opens %s, in %s", localTime(j.NextOpensAt, zone, ""), left(j.NextOpensAt.Sub(at)))
	default:
		s += "; that does not change within 370 days"
	}
	if len(openings) > 0 && j.State == window.Open && openings[0].StartsAt.After(at) {
		s += "; this host's part of it begins " + localTime(openings[0].StartsAt, zone, "")
	}
	if notes := late(spec, j, at); len(notes) > 0 {
		s += "; " + strings.Join(notes, ", and ")
	}
	return s + ". Times are of " + zone.String() + "."
}

// late says what is not started any more before an open window closes.
func late(spec v1alpha1.HostSpecSpec, j window.Judgement, at time.Time) (notes []string) {
	if j.State == window.Closed || j.ClosesAt.IsZero() {
		return nil
	}
	for _, need := range window.Needs(spec) {
		if at.Add(need.Time).After(j.ClosesAt) {
			notes = append(notes, fmt.Sprintf("it is too late to start %s, which needs %s", need.Gate, meta.Short(need.Time)))
		}
	}
	return notes
}

// whyWindow says why a window is what it is.
func whyWindow(j window.Judgement) string {
	return map[string]string{
		window.ReasonAlwaysOpen: "there is no allow list", window.ReasonAllowed: j.Name + " allows it", window.ReasonOutsideAllow: "no entry of allow is active",
		window.ReasonDenied: j.Name + " denies it", window.ReasonOpenedByOverride: "its override opens it", window.ReasonZoneUnknown: "this machine does not know the zone " + j.Name,
	}[j.Reason]
}

// weekDays is how many days the view of a week has.
const weekDays = 7

// cell is a half of an hour of a local day, as far as that day has it.
type cell struct{ open, minutes int }

func (c cell) String() string {
	switch {
	case c.minutes == 0:
		return " "
	case c.open == c.minutes:
		return "#"
	case c.open > 0:
		return "+"
	default:
		return "."
	}
}

// week draws seven local days by half hours.
func week(calendar *window.Calendar, at time.Time) string {
	days, cells := halfHours(calendar, at)
	var b strings.Builder
	b.WriteString("                0     3     6     9     12    15    18    21     # open  + partly")
	for _, day := range days {
		b.WriteString("\n" + day + "  ")
		for _, c := range cells[day] {
			b.WriteString(c.String())
		}
	}
	return b.String()
}

// halfHours counts the minutes in which the window is open, from the local
// midnight before an instant on.
func halfHours(calendar *window.Calendar, at time.Time) (days []string, cells map[string]*[48]cell) {
	const layout = "Mon 2006-01-02"
	zone := calendar.Zone()
	today := at.In(zone).Format(layout)
	cells = map[string]*[48]cell{}
	for t := at.Add(-26 * time.Hour).Truncate(time.Minute); ; t = t.Add(time.Minute) { // from before any local midnight
		local := t.In(zone)
		day := local.Format(layout)
		if len(days) == 0 && day != today {
			continue
		}
		if cells[day] == nil {
			if len(days) == weekDays {
				return days, cells
			}
			days, cells[day] = append(days, day), &[48]cell{}
		}
		c := &cells[day][2*local.Hour()+local.Minute()/30]
		c.minutes++
		if calendar.Open(t) {
			c.open++
		}
	}
}
