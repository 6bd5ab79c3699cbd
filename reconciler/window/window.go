package window

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// Slack is what a host needs to begin at its moment: it does not look all the time.
const Slack = 2 * time.Minute

// Horizon is how far is looked ahead.
const Horizon = 370 * 24 * time.Hour

// State is Open or Closed.
type State string

// The states of a window.
const (
	Open   State = "Open"
	Closed State = "Closed"
)

// Reasons of a state.
const (
	// ReasonAlwaysOpen: there is no allow list, and no entry of deny is active.
	ReasonAlwaysOpen = "AlwaysOpen"
	// ReasonAllowed: an entry of allow is active, and none of deny.
	ReasonAllowed = "Allowed"
	// ReasonOutsideAllow: no entry of allow is active. Do: nothing, or npcnix reconcile HOST --open-window-until T.
	ReasonOutsideAllow = "OutsideAllow"
	// ReasonDenied: an entry of deny is active. Do: nothing, or change the HostSpec; no override opens it.
	ReasonDenied = "Denied"
	// ReasonOpenedByOverride: the override opens it for once. Do: nothing, or npcnix reconcile HOST --close-window.
	ReasonOpenedByOverride = "OpenedByOverride"
	// ReasonClockSkewed: the host's clock is too far from the store's to judge. Do: set the clock of the host.
	ReasonClockSkewed = "ClockSkewed"
	// ReasonZoneUnknown: this machine does not know the time zone. Do: mend maintenanceWindow.timeZone, or bring a newer agent to the host.
	ReasonZoneUnknown = "ZoneUnknown"
)

// Calendar is a window that was made ready to be asked.
type Calendar struct {
	zone        *time.Location
	unknown     string // the zone, where it is
	allow, deny []entry
	always      bool // there is no allow list
	splay       time.Duration
	gates       []v1alpha1.Gate
	host        string
	opened      span // by the override
}

// entry is weekly, or one span of time.
type entry struct {
	name     string
	weekly   bool
	days     [7]bool // Sunday first
	start    wall    // since midnight
	duration int64   // seconds
	span     span    // of a dated one
}

// span is the time from from until to, which is exclusive, in Unix seconds.
type span struct{ from, to int64 }

// New returns the calendar of a host's window; nil is always open. A zone that
// this machine does not know is always closed.
func New(host string, w *v1alpha1.MaintenanceWindow) *Calendar {
	c := &Calendar{host: host, zone: time.UTC, always: true}
	if w == nil {
		return c
	}
	zone, err := time.LoadLocation(w.TimeZone)
	if err != nil {
		c.unknown = w.TimeZone
		return c
	}
	c.zone, c.gates, c.always = zone, w.Gates, len(w.Allow) == 0
	if w.Gates == nil {
		c.gates = []v1alpha1.Gate{v1alpha1.GateActivate, v1alpha1.GateReboot}
	}
	if w.Splay != nil {
		c.splay = w.Splay.Duration
	}
	c.allow, c.deny = entries(zone, w.Allow), entries(zone, w.Deny)
	return c
}

// Opened returns the calendar with its allow list open in [from, until): deny
// still wins. From is when it is asked: an override does not say since when, and
// once it is over, the window is as if it had never been.
func (c *Calendar) Opened(from, until time.Time) *Calendar {
	opened := *c
	opened.opened = span{from.Unix(), until.Unix()}
	return &opened
}

// Zone is the window's time zone, for people.
func (c *Calendar) Zone() *time.Location { return c.zone }

// Gated reports whether a step waits for the window.
func (c *Calendar) Gated(gate v1alpha1.Gate) bool {
	return c.unknown != "" || slices.Contains(c.gates, gate)
}

func entries(zone *time.Location, list []v1alpha1.WindowEntry) []entry {
	made := make([]entry, 0, len(list))
	for _, e := range list {
		if e.From != "" || e.Until != "" {
			made = append(made, entry{name: e.Name, span: span{from(zone, parseWall(e.From)), from(zone, parseWall(e.Until))}})
			continue
		}
		w := entry{name: e.Name, weekly: true, start: timeOfDay(e.Start)}
		if e.Duration != nil {
			w.duration = int64(e.Duration.Duration / time.Second)
		}
		for i, name := range weekdays {
			w.days[i] = e.Days == nil || slices.Contains(e.Days, name)
		}
		made = append(made, w)
	}
	return made
}

// weekdays by their time.Weekday.
var weekdays = [7]v1alpha1.Weekday{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"} //nolint:gochecknoglobals // names

// parseWall reads a validated local time.
func parseWall(s string) wall {
	t, err := time.Parse(v1alpha1.LocalTimeLayout, s)
	if err != nil {
		return 0
	}
	return wall(t.Unix())
}

// timeOfDay reads a validated "22:00".
func timeOfDay(s string) wall {
	hour, minute, _ := strings.Cut(s, ":")
	h, _ := strconv.Atoi(hour)
	m, _ := strconv.Atoi(minute)
	return wall(h*3600 + m*60)
}

// Judgement is what the window is at an instant.
type Judgement struct {
	State  State
	Reason string
	// Name is the entry that opens or closes it, if one does.
	Name string
	// ClosesAt or NextOpensAt is the next instant at which State changes; zero
	// where it does not within the horizon, or is the other.
	ClosesAt, NextOpensAt time.Time
}

// Opening is a stretch of time in which the window is open.
type Opening struct {
	// Name is that of the first entry of allow that is active when it opens;
	// empty where there is no allow list.
	Name              string
	OpensAt, ClosesAt time.Time // ClosesAt is zero if it does not close within the horizon
	// StartsAt is when this host may start what is gated; zero if there is not
	// enough time for it.
	StartsAt time.Time
}

// At judges an instant.
func (c *Calendar) At(t time.Time) Judgement {
	if c.unknown != "" {
		return Judgement{State: Closed, Reason: ReasonZoneUnknown, Name: c.unknown}
	}
	now := t.Unix()
	j := c.judge(now)
	change, ok := c.next(now)
	switch {
	case !ok:
	case j.State == Open:
		j.ClosesAt = time.Unix(change, 0).UTC()
	default:
		j.NextOpensAt = time.Unix(change, 0).UTC()
	}
	return j
}

// Open reports whether the window is open at an instant.
func (c *Calendar) Open(t time.Time) bool {
	return c.unknown == "" && c.judge(t.Unix()).State == Open
}

// judge says what rule 3 says: an entry of allow is active, or there is none,
// and no entry of deny is.
func (c *Calendar) judge(now int64) Judgement {
	if name, denied := c.active(c.deny, now); denied {
		return Judgement{State: Closed, Reason: ReasonDenied, Name: name}
	}
	if c.always {
		return Judgement{State: Open, Reason: ReasonAlwaysOpen}
	}
	if name, allowed := c.active(c.allow, now); allowed {
		return Judgement{State: Open, Reason: ReasonAllowed, Name: name}
	}
	if c.overridden(now) {
		return Judgement{State: Open, Reason: ReasonOpenedByOverride}
	}
	return Judgement{State: Closed, Reason: ReasonOutsideAllow}
}

func (c *Calendar) overridden(now int64) bool { return c.opened.from <= now && now < c.opened.to }

// active returns the first entry that is active.
func (c *Calendar) active(list []entry, now int64) (name string, ok bool) {
	for _, e := range list {
		if slices.ContainsFunc(c.spans(e, now, now+1), func(s span) bool { return s.from <= now && now < s.to }) {
			return e.name, true
		}
	}
	return "", false
}

// spans are those of an entry that meet [from, to).
func (c *Calendar) spans(e entry, from, to int64) []span {
	if !e.weekly {
		return []span{e.span}
	}
	var list []span
	reach := int64(around / time.Second)
	first := wall(from - e.duration - reach).midnight()
	for midnight := first; int64(midnight) < to+reach; midnight += day {
		if !e.days[midnight.weekday()] {
			continue
		}
		if at, ok := onDay(c.zone, midnight+e.start); ok && at < to && at+e.duration > from {
			list = append(list, span{at, at + e.duration})
		}
	}
	return list
}

// step is how far is looked at a time for the next change.
const step = int64(8 * 24 * 60 * 60)

// next returns the next instant at which the state changes, within the horizon.
func (c *Calendar) next(now int64) (change int64, ok bool) {
	state, end := c.judge(now).State, now+int64(Horizon/time.Second)
	for from := now; from < end; from += step {
		for _, edge := range c.edges(from, min(from+step, end)) {
			if edge > now && c.judge(edge).State != state {
				return edge, true
			}
		}
	}
	return 0, false
}

// edges are the instants in [from, to] at which an entry begins or ends, in order.
func (c *Calendar) edges(from, to int64) []int64 {
	var list []int64
	add := func(s span) {
		for _, edge := range []int64{s.from, s.to} {
			if from <= edge && edge <= to {
				list = append(list, edge)
			}
		}
	}
	for _, e := range slices.Concat(c.allow, c.deny) {
		for _, s := range c.spans(e, from-1, to+1) {
			add(s)
		}
	}
	if c.opened.from < c.opened.to {
		add(c.opened)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Openings returns at most n, from the one that is open at t on. limit is how
// long what is gated may take.
func (c *Calendar) Openings(t time.Time, n int, limit time.Duration) []Opening {
	var list []Opening
	end := t.Add(Horizon)
	for at := t; len(list) < n; {
		j := c.At(at)
		if j.State == Closed {
			if j.NextOpensAt.IsZero() || j.NextOpensAt.After(end) {
				break
			}
			at = j.NextOpensAt
			continue
		}
		o := c.opening(at, j)
		o.StartsAt = c.startsAt(o, limit)
		list = append(list, o)
		if j.ClosesAt.IsZero() || j.ClosesAt.After(end) {
			break
		}
		at = j.ClosesAt
	}
	return list
}

// opening is the one that is open at t, by its judgement.
func (c *Calendar) opening(t time.Time, j Judgement) Opening {
	o := Opening{OpensAt: c.began(t.Unix()), ClosesAt: j.ClosesAt}
	if !o.OpensAt.IsZero() {
		o.Name = c.judge(o.OpensAt.Unix()).Name
	}
	return o
}

// began is when the window that is open at now opened; zero if it did not
// within the horizon.
func (c *Calendar) began(now int64) time.Time {
	opened, begin := now, now-int64(Horizon/time.Second)
	for to := now; to > begin; to -= step {
		edges := c.edges(max(to-step, begin), to)
		for _, edge := range slices.Backward(edges) {
			if edge > opened {
				continue
			}
			if c.judge(edge).State == Open {
				opened = edge
			}
			if c.judge(edge-1).State == Closed {
				return time.Unix(opened, 0).UTC()
			}
		}
	}
	return time.Time{}
}

// startsAt is the host's own moment of an opening: rule 5. While an override
// opens it, nothing is spread: a person waits.
func (c *Calendar) startsAt(o Opening, limit time.Duration) time.Time {
	if o.OpensAt.IsZero() { // it is open since ever
		return time.Time{}
	}
	begin := max(o.OpensAt.Unix(), c.opened.from)
	if c.overridden(begin) && (o.ClosesAt.IsZero() || !time.Unix(begin, 0).Add(limit).After(o.ClosesAt)) {
		return time.Unix(begin, 0).UTC()
	}
	spread := c.splay
	if !o.ClosesAt.IsZero() {
		room := o.ClosesAt.Sub(o.OpensAt) - limit
		if room < 0 {
			return time.Time{}
		}
		spread = min(spread, max(0, room-Slack))
	}
	if spread < time.Second {
		return o.OpensAt
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s %d", c.host, o.OpensAt.Unix()) // a hash never fails
	seconds := h.Sum64() % uint64(spread/time.Second)
	return o.OpensAt.Add(time.Duration(seconds) * time.Second) //nolint:gosec // less than spread
}
