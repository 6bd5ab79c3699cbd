package window_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/window"
)

func at(t interface{ Fatal(...any) }, s string) time.Time {
	parsed, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func duration(d time.Duration) *meta.Duration { return &meta.Duration{Duration: d} }

func nights(zone string) *v1alpha1.MaintenanceWindow {
	return &v1alpha1.MaintenanceWindow{TimeZone: zone, Allow: []v1alpha1.WindowEntry{
		{Name: "nights", Days: []v1alpha1.Weekday{"Mon", "Tue", "Wed", "Thu", "Fri"}, Start: "22:00", Duration: duration(6 * time.Hour)},
	}}
}

// What a person would say of a calendar, hour by hour.
func TestJudgements(t *testing.T) {
	t.Parallel()
	freeze := nights("Europe/Berlin")
	freeze.Deny = []v1alpha1.WindowEntry{
		{Name: "fridays", Days: []v1alpha1.Weekday{"Fri"}, Start: "12:00", Duration: duration(60 * time.Hour)},
		{Name: "xmas", From: "2026-12-20T00:00:00", Until: "2027-01-04T00:00:00"},
	}
	early := func(zone, start string) *v1alpha1.MaintenanceWindow {
		return &v1alpha1.MaintenanceWindow{TimeZone: zone, Allow: []v1alpha1.WindowEntry{{Name: "early", Start: start, Duration: duration(time.Hour)}}}
	}
	denyOnly := &v1alpha1.MaintenanceWindow{TimeZone: "UTC", Deny: []v1alpha1.WindowEntry{{Name: "noon", Start: "12:00", Duration: duration(time.Hour)}}}
	touching := &v1alpha1.MaintenanceWindow{TimeZone: "UTC", Allow: []v1alpha1.WindowEntry{
		{Name: "a", Start: "10:00", Duration: duration(time.Hour)}, {Name: "b", Start: "11:00", Duration: duration(time.Hour)},
	}}
	for name, c := range map[string]struct {
		w      *v1alpha1.MaintenanceWindow
		at     string
		state  window.State
		reason string
		entry  string
		change string
	}{
		"no window":                            {nil, "2026-11-25T10:00:00Z", window.Open, "AlwaysOpen", "", ""},
		"before a night":                       {nights("Europe/Berlin"), "2026-11-25T20:59:59Z", window.Closed, "OutsideAllow", "", "2026-11-25T21:00:00Z"},
		"a night":                              {nights("Europe/Berlin"), "2026-11-25T21:00:00Z", window.Open, "Allowed", "nights", "2026-11-26T03:00:00Z"},
		"its end is not part of it":            {nights("Europe/Berlin"), "2026-11-26T03:00:00Z", window.Closed, "OutsideAllow", "", "2026-11-26T21:00:00Z"},
		"friday night's saturday hours":        {nights("Europe/Berlin"), "2026-11-28T02:00:00Z", window.Open, "Allowed", "nights", "2026-11-28T03:00:00Z"},
		"saturday night":                       {nights("Europe/Berlin"), "2026-11-28T22:00:00Z", window.Closed, "OutsideAllow", "", "2026-11-30T21:00:00Z"},
		"denied":                               {freeze, "2026-11-27T21:30:00Z", window.Closed, "Denied", "fridays", "2026-11-30T21:00:00Z"},
		"denied at a freeze":                   {freeze, "2026-12-21T21:30:00Z", window.Closed, "Denied", "xmas", "2027-01-04T21:00:00Z"},
		"denied from noon on friday":           {freeze, "2026-11-27T11:00:00Z", window.Closed, "Denied", "fridays", "2026-11-30T21:00:00Z"},
		"deny alone":                           {denyOnly, "2026-11-25T11:00:00Z", window.Open, "AlwaysOpen", "", "2026-11-25T12:00:00Z"},
		"touching entries are one":             {touching, "2026-11-25T10:30:00Z", window.Open, "Allowed", "a", "2026-11-25T12:00:00Z"},
		"an hour that does not exist":          {early("Europe/Berlin", "02:30"), "2026-03-29T01:00:00Z", window.Open, "Allowed", "early", "2026-03-29T02:00:00Z"},
		"which opens after the gap":            {early("Europe/Berlin", "02:30"), "2026-03-29T00:59:59Z", window.Closed, "OutsideAllow", "", "2026-03-29T01:00:00Z"},
		"an hour that happens twice":           {early("Europe/Berlin", "02:30"), "2026-10-25T00:30:00Z", window.Open, "Allowed", "early", "2026-10-25T01:30:00Z"},
		"means the first":                      {early("Europe/Berlin", "02:30"), "2026-10-25T01:30:00Z", window.Closed, "OutsideAllow", "", "2026-10-26T01:30:00Z"},
		"a day that does not exist":            {early("Pacific/Apia", "10:00"), "2011-12-29T22:00:00Z", window.Closed, "OutsideAllow", "", "2011-12-30T20:00:00Z"},
		"a gap at midnight":                    {early("America/Sao_Paulo", "00:00"), "2018-11-04T03:00:00Z", window.Open, "Allowed", "early", "2018-11-04T04:00:00Z"},
		"six hours stay six hours in spring":   {nights("Europe/Berlin"), "2027-03-26T21:00:00Z", window.Open, "Allowed", "nights", "2027-03-27T03:00:00Z"},
		"a zone that nobody knows":             {nights("Mars/Olympus"), "2026-11-25T21:00:00Z", window.Closed, "ZoneUnknown", "Mars/Olympus", ""},
		"dated alone, after its end":           {&v1alpha1.MaintenanceWindow{TimeZone: "UTC", Allow: []v1alpha1.WindowEntry{{Name: "once", From: "2026-01-01T00:00:00", Until: "2026-01-02T00:00:00"}}}, "2026-11-25T00:00:00Z", window.Closed, "OutsideAllow", "", ""},
		"dated beyond the horizon":             {&v1alpha1.MaintenanceWindow{TimeZone: "UTC", Allow: []v1alpha1.WindowEntry{{Name: "once", From: "2027-12-01T00:00:00", Until: "2028-01-02T00:00:00"}}}, "2026-11-25T00:00:00Z", window.Closed, "OutsideAllow", "", ""},
		"dated in years that no table reaches": {&v1alpha1.MaintenanceWindow{TimeZone: "Europe/Berlin", Allow: []v1alpha1.WindowEntry{{Name: "once", From: "2048-12-31T00:00:00", Until: "2048-12-31T12:00:00"}}}, "2048-12-30T12:00:00Z", window.Closed, "OutsideAllow", "", "2048-12-30T23:00:00Z"},
		"an entry whose state another covers":  {&v1alpha1.MaintenanceWindow{TimeZone: "UTC", Allow: []v1alpha1.WindowEntry{{Name: "all", From: "2020-01-01T00:00:00", Until: "2040-01-01T00:00:00"}, {Name: "some", Start: "10:00", Duration: duration(time.Hour)}}}, "2026-11-25T10:30:00Z", window.Open, "Allowed", "all", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := window.New("web", c.w).At(at(t, c.at))
			change := j.ClosesAt
			if j.State == window.Closed {
				change = j.NextOpensAt
			}
			got := ""
			if !change.IsZero() {
				got = change.Format(time.RFC3339)
			}
			if j.State != c.state || j.Reason != c.reason || j.Name != c.entry || got != c.change {
				t.Errorf("%+v", j)
			}
			if j.State == window.Open && !j.NextOpensAt.IsZero() || j.State == window.Closed && !j.ClosesAt.IsZero() {
				t.Errorf("it tells of two changes: %+v", j)
			}
		})
	}
}

func TestOverrideOpensTheAllowListAlone(t *testing.T) {
	t.Parallel()
	w := nights("UTC")
	w.Deny = []v1alpha1.WindowEntry{{Name: "noon", Start: "12:00", Duration: duration(time.Hour)}}
	until := at(t, "2026-11-25T14:00:00Z")
	c := window.New("web", w).Opened(until.Add(-12*time.Hour), until)
	for when, want := range map[string]string{
		"2026-11-25T11:00:00Z": "Open OpenedByOverride", "2026-11-25T12:30:00Z": "Closed Denied",
		"2026-11-25T13:59:59Z": "Open OpenedByOverride", "2026-11-25T14:00:00Z": "Closed OutsideAllow", "2026-11-25T23:00:00Z": "Open Allowed",
	} {
		if j := c.At(at(t, when)); string(j.State)+" "+j.Reason != want {
			t.Errorf("%s: %+v, want %s", when, j, want)
		}
	}
	if j := c.At(at(t, "2026-11-25T13:00:00Z")); !j.ClosesAt.Equal(until) {
		t.Errorf("%+v", j)
	}
}

// While an override opens a window, a host starts at once; when it is over, each
// has its own moment again.
func TestOverrideSpreadsNothingWhileItLasts(t *testing.T) {
	t.Parallel()
	w := nights("UTC")
	w.Splay = duration(5 * time.Hour)
	own := window.New("web", w).Openings(at(t, "2026-11-25T12:00:00Z"), 1, time.Minute)[0]
	if !own.StartsAt.After(own.OpensAt.Add(time.Hour)) {
		t.Fatalf("%+v", own)
	}
	until := own.OpensAt.Add(10 * time.Minute)
	for when, want := range map[time.Time]window.Opening{
		own.OpensAt.Add(-time.Hour):       {OpensAt: own.OpensAt.Add(-time.Hour), StartsAt: own.OpensAt.Add(-time.Hour), ClosesAt: own.ClosesAt},
		own.OpensAt.Add(5 * time.Minute):  {Name: own.Name, OpensAt: own.OpensAt, StartsAt: own.OpensAt.Add(5 * time.Minute), ClosesAt: own.ClosesAt},
		own.OpensAt.Add(10 * time.Minute): own,
		own.OpensAt.Add(20 * time.Minute): own,
	} {
		if got := window.New("web", w).Opened(when, until).Openings(when, 1, time.Minute)[0]; got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
}

func TestOpenings(t *testing.T) {
	t.Parallel()
	w := nights("Europe/Berlin")
	w.Deny = []v1alpha1.WindowEntry{{Name: "cut", From: "2026-11-26T00:00:00", Until: "2026-11-26T03:55:00"}}
	w.Splay = duration(30 * time.Minute)
	c := window.New("web-1", w)
	list := c.Openings(at(t, "2026-11-25T21:30:00Z"), 4, 15*time.Minute)
	var got []string
	for _, o := range list {
		starts := "never"
		if !o.StartsAt.IsZero() {
			starts = strconv.FormatBool(o.StartsAt.Sub(o.OpensAt) < 30*time.Minute && !o.StartsAt.Before(o.OpensAt))
		}
		got = append(got, strings.Join([]string{o.Name, o.OpensAt.Format("02T15:04"), o.ClosesAt.Format("02T15:04"), starts}, " "))
	}
	want := []string{
		"nights 25T21:00 25T23:00 true",  // open already
		"nights 26T02:55 26T03:00 never", // five minutes are not enough
		"nights 26T21:00 27T03:00 true", "nights 27T21:00 28T03:00 true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if other := window.New("web-2", w).Openings(at(t, "2026-11-25T21:30:00Z"), 1, 15*time.Minute)[0]; other.StartsAt.Equal(list[0].StartsAt) {
		t.Errorf("two hosts begin at %s", other.StartsAt)
	}
	if again := c.Openings(at(t, "2026-11-25T22:45:00Z"), 1, 15*time.Minute)[0]; again != list[0] {
		t.Errorf("later it is %+v, was %+v", again, list[0])
	}
	if always := window.New("web", nil).Openings(at(t, "2026-11-25T21:30:00Z"), 5, time.Hour); len(always) != 1 || always[0] != (window.Opening{}) {
		t.Errorf("always open is %+v", always)
	}
}

// zones are all that the system's database names.
func zones(t interface{ Fatal(...any) }) []string {
	var names []string
	root := "/usr/share/zoneinfo"
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root+"/")
		if err == nil && d.IsDir() && (name == "posix" || name == "right") {
			return filepath.SkipDir
		}
		if _, loadErr := time.LoadLocation(name); err == nil && !d.IsDir() && loadErr == nil && strings.Contains(name, "/") {
			names = append(names, name)
		}
		return err
	})
	if err != nil || len(names) < 300 {
		t.Fatal("this test needs the zones of tzdata: ", len(names), err)
	}
	return names
}

// clock is what the zone's clock shows at each minute, from ten days before, in
// minutes since 1970 as it would count them.
type clock struct {
	from  int64 // Unix minute of the first
	shows []int64
}

const before = 10 * 1440

func newClock(zone *time.Location, from, to int64) clock {
	c := clock{from: from - before}
	for minute := c.from; minute < to; minute++ {
		_, offset := time.Unix(minute*60, 0).In(zone).Zone()
		c.shows = append(c.shows, minute+int64(offset)/60)
	}
	return c
}

// shown is a local time as a clock counts it.
func shown(local string) int64 {
	t, err := time.Parse(v1alpha1.LocalTimeLayout, local)
	if err != nil {
		panic(err)
	}
	return t.Unix() / 60
}

// occurrences are the minutes at which a weekly entry opens: for each local day
// that exists, the first minute of it at which the clock shows its start or later.
func (c clock) occurrences(e v1alpha1.WindowEntry) []int64 {
	opened := map[int64]bool{}
	start := shown("1970-01-01T" + e.Start + ":00")
	var list []int64
	for i, shows := range c.shows {
		date, time := shows/1440, shows%1440
		if time < start || opened[date] {
			continue
		}
		opened[date] = true
		day := []v1alpha1.Weekday{"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"}[date%7] // 1970 began on a Thursday
		if e.Days == nil || slices.Contains(e.Days, day) {
			list = append(list, c.from+int64(i))
		}
	}
	return list
}

// active tells of each minute of the clock whether one of the entries is.
func (c clock) active(list []v1alpha1.WindowEntry) func(minute int64) bool {
	is := make([]bool, len(c.shows))
	for _, e := range list {
		if e.From == "" {
			for _, opens := range c.occurrences(e) {
				begin := opens - c.from
				for i := begin; i < min(begin+int64(e.Duration.Duration/time.Minute), int64(len(is))); i++ {
					is[i] = true
				}
			}
			continue
		}
		begin, end := shown(e.From), shown(e.Until)
		from, until := false, false // whether the clock has shown them, or later
		for i, shows := range c.shows {
			from, until = from || shows >= begin, until || shows >= end
			is[i] = is[i] || (from && !until)
		}
	}
	return func(minute int64) bool { return is[minute-c.from] }
}

// entryNear draws an entry that matters around a day.
func entryNear(t *rapid.T, i int, day time.Time) v1alpha1.WindowEntry {
	name := fmt.Sprintf("e%d", i)
	if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
		from := day.Add(time.Duration(rapid.IntRange(-1440, 1440).Draw(t, "from")) * time.Minute)
		until := from.Add(time.Duration(rapid.IntRange(1, 3000).Draw(t, "span")) * time.Minute)
		return v1alpha1.WindowEntry{Name: name, From: from.Format(v1alpha1.LocalTimeLayout), Until: until.Format(v1alpha1.LocalTimeLayout)}
	}
	e := v1alpha1.WindowEntry{
		Name: name, Start: fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, "hour"), rapid.SampledFrom([]int{0, 1, 15, 30, 45, 59}).Draw(t, "minute")),
		Duration: duration(time.Duration(rapid.SampledFrom([]int{5, 30, 60, 90, 360, 1440, 1500, 10080}).Draw(t, "duration")) * time.Minute),
	}
	if rapid.Bool().Draw(t, "some days") {
		e.Days = rapid.SliceOfNDistinct(rapid.SampledFrom([]v1alpha1.Weekday{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}), 1, 3, rapid.ID).Draw(t, "days")
	}
	return e
}

// transitions are instants at which the zone's clock jumps, whole minutes of them.
func transitions(zone *time.Location) []time.Time {
	var list []time.Time
	for at := time.Date(1970, 2, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2038; {
		_, end := at.In(zone).ZoneBounds()
		if end.IsZero() {
			break
		}
		if at = end; at.Unix()%60 == 0 {
			list = append(list, at)
		}
	}
	return list
}

// moment is a zone, an instant, and a window that matters around it.
type moment struct {
	zone string
	day  time.Time
	w    *v1alpha1.MaintenanceWindow
}

// moments draws one in a zone, more often than not at a jump of its clock.
func moments(name string) *rapid.Generator[moment] {
	return rapid.Custom(func(t *rapid.T) moment {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		day := time.Date(2026, 11, rapid.IntRange(1, 30).Draw(t, "day"), 0, 0, 0, 0, time.UTC)
		if jumps := transitions(zone); len(jumps) > 0 && rapid.IntRange(0, 4).Draw(t, "at a jump") > 0 {
			day = rapid.SampledFrom(jumps).Draw(t, "jump")
		}
		local := day.In(zone)
		local = time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, time.UTC)
		w := &v1alpha1.MaintenanceWindow{TimeZone: name}
		for i := range rapid.IntRange(0, 2).Draw(t, "allow") {
			w.Allow = append(w.Allow, entryNear(t, i, local))
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "deny") {
			w.Deny = append(w.Deny, entryNear(t, 10+i, local))
		}
		return moment{name, day, w}
	})
}

// disagrees says where the state of a window, or its next change, is not what
// the clock on the wall says.
func (m moment) disagrees(zone *time.Location) string {
	if _, offset := m.day.In(zone).Zone(); offset%60 != 0 {
		return "" // the clock is read by the minute
	}
	from, to := m.day.Unix()/60-2160, m.day.Unix()/60+2160
	shows := newClock(zone, from, to)
	allowed, denied := shows.active(m.w.Allow), shows.active(m.w.Deny)
	open := func(minute int64) bool { return (m.w.Allow == nil || allowed(minute)) && !denied(minute) }
	c, next := window.New("web", m.w), from
	for minute := from; minute < to; {
		j := c.At(time.Unix(minute*60, 0))
		if (j.State == window.Open) != open(minute) {
			return fmt.Sprintf("%s: %+v, the clock says %v", time.Unix(minute*60, 0).In(zone), j, open(minute))
		}
		next = max(next, minute+1)
		for next < to && open(next) == open(minute) {
			next++
		}
		change := j.ClosesAt
		if j.State == window.Closed {
			change = j.NextOpensAt
		}
		if (next < to && change.Unix() != next*60) || (next == to && !change.IsZero() && change.Unix() < next*60) {
			return fmt.Sprintf("%s: %+v, the clock says %s", time.Unix(minute*60, 0).In(zone), j, time.Unix(next*60, 0).UTC())
		}
		step := minute + 11 // and both sides of each change
		for _, edge := range []int64{next, next - 1} {
			if edge > minute {
				step = min(step, edge)
			}
		}
		minute = step
	}
	return ""
}

// In every zone there is, around jumps of its clock, the state at each minute
// and the next change are what the clock on the wall says.
func TestEveryZoneAgreesWithTheClock(t *testing.T) {
	t.Parallel()
	for i, name := range zones(t) {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		m, ok := telling(name, zone, i)
		if !ok {
			t.Errorf("%s: nothing is drawn that tells anything", name)
		} else if says := m.disagrees(zone); says != "" {
			t.Errorf("%s: %s\n%+v", name, says, m.w)
		}
	}
}

// telling is a moment in a zone with a window that is not open always, at a jump
// of its clock if it has any.
func telling(name string, zone *time.Location, seed int) (m moment, ok bool) {
	jumps := transitions(zone)
	for try := range 200 {
		m = moments(name).Example(seed + 1000*try)
		_, offset := m.day.In(zone).Zone()
		at := len(jumps) == 0 || slices.ContainsFunc(jumps, m.day.Equal)
		if offset%60 == 0 && at && len(m.w.Allow)+len(m.w.Deny) > 0 {
			return m, true
		}
	}
	return m, false
}

// So they are in any window, where clocks do the oddest things.
func TestOddZonesAgreeWithTheClock(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := moments(rapid.SampledFrom([]string{
			"Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo", "Africa/Casablanca", "Antarctica/Troll", "Asia/Gaza",
		}).Draw(t, "zone")).Draw(t, "moment")
		zone, err := time.LoadLocation(m.zone)
		if err != nil {
			t.Fatal(err)
		}
		if says := m.disagrees(zone); says != "" {
			t.Fatalf("%s\n%+v", says, m.w)
		}
	})
}

// window draws any window.
func anyWindow(t *rapid.T) *v1alpha1.MaintenanceWindow {
	w := &v1alpha1.MaintenanceWindow{TimeZone: rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"}).Draw(t, "zone")}
	day := time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC)
	for i := range rapid.IntRange(0, 3).Draw(t, "allow") {
		w.Allow = append(w.Allow, entryNear(t, i, day))
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "deny") {
		w.Deny = append(w.Deny, entryNear(t, 10+i, day))
	}
	return w
}

// The algebra of allow and deny, and what openings say of the state.
func TestAlgebra(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := anyWindow(t)
		now := time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 4*24*60).Draw(t, "now")) * time.Minute)
		open := func(w *v1alpha1.MaintenanceWindow) bool { return window.New("web", w).At(now).State == window.Open }
		more := *w
		more.Deny = append(slices.Clone(w.Deny), entryNear(t, 20, now))
		if open(&more) && !open(w) {
			t.Fatal("another deny opens it")
		}
		if w.Allow != nil {
			more := *w
			more.Allow = append(slices.Clone(w.Allow), entryNear(t, 30, now))
			if open(w) && !open(&more) {
				t.Fatal("another allow closes it")
			}
		}
		turned := *w
		turned.Allow, turned.Deny = slices.Clone(w.Allow), slices.Clone(w.Deny)
		slices.Reverse(turned.Allow)
		slices.Reverse(turned.Deny)
		if open(w) != open(&turned) {
			t.Fatal("the order counts")
		}
		limit := time.Duration(rapid.IntRange(0, 120).Draw(t, "limit")) * time.Minute
		w.Splay = duration(time.Duration(rapid.IntRange(0, 3600).Draw(t, "splay")) * time.Second)
		c := window.New("web", w)
		last := time.Time{}
		for i, o := range c.Openings(now, 6, limit) {
			if o.OpensAt.IsZero() {
				if i != 0 || c.At(now).State != window.Open {
					t.Fatalf("opening %d has no beginning: %+v", i, o)
				}
			} else if c.At(o.OpensAt).State != window.Open || c.At(o.OpensAt.Add(-time.Second)).State != window.Closed || o.OpensAt.Before(last) {
				t.Fatalf("it does not open then: %+v", o)
			}
			if !o.ClosesAt.IsZero() && (c.At(o.ClosesAt).State != window.Closed || c.At(o.ClosesAt.Add(-time.Second)).State != window.Open) {
				t.Fatalf("it does not close then: %+v", o)
			}
			if !o.StartsAt.IsZero() && (o.StartsAt.Before(o.OpensAt) || (!o.ClosesAt.IsZero() && o.ClosesAt.Sub(o.StartsAt) < limit) || o.StartsAt.Sub(o.OpensAt) > w.Splay.Duration) {
				t.Fatalf("it does not start then: %+v", o)
			}
			if o.StartsAt.IsZero() && !o.ClosesAt.IsZero() && !o.OpensAt.IsZero() && o.ClosesAt.Sub(o.OpensAt) >= limit {
				t.Fatalf("there is time: %+v", o)
			}
			last = o.ClosesAt
		}
	})
}

// Whatever a window is, it tells of no change in the past; and one that is valid
// agrees with the clock on the wall.
func FuzzWindow(f *testing.F) {
	f.Add("Europe/Berlin", "02:30", int64(time.Hour), "2026-10-25T02:00:00", "2026-10-25T03:00:00", int64(1761350400))
	f.Add("America/St_Johns", "00:01", int64(30*time.Hour), "2026-03-08T00:00:00", "2026-03-09T03:00:00", int64(1773000000))
	f.Add("", "", int64(-1), "", "x", int64(-1))
	f.Fuzz(func(t *testing.T, zone, start string, length int64, from, until string, now int64) {
		if now < -1<<40 || now > 1<<40 || length > int64(200*time.Hour) {
			t.Skip()
		}
		w := &v1alpha1.MaintenanceWindow{
			TimeZone: zone, Allow: []v1alpha1.WindowEntry{{Name: "a", Start: start, Duration: duration(time.Duration(length))}},
			Deny: []v1alpha1.WindowEntry{{Name: "d", From: from, Until: until}},
		}
		c, at := window.New("web", w), time.Unix(now, 0)
		j := c.At(at)
		if change := j.ClosesAt; !change.IsZero() && !change.After(at) {
			t.Errorf("closes in the past: %+v", j)
		}
		if change := j.NextOpensAt; !change.IsZero() && !change.After(at) {
			t.Errorf("opens in the past: %+v", j)
		}
		c.Openings(at, 3, time.Minute)
		location, err := time.LoadLocation(zone)
		if err != nil || len(spec(w).Validate()) > 0 || length%int64(time.Minute) != 0 || from[16:]+until[16:] != ":00:00" {
			return // the clock is read by the minute
		}
		if says := (moment{zone, at, w}).disagrees(location); says != "" {
			t.Errorf("%s\n%+v", says, w)
		}
	})
}

// spec is a HostSpec with that window.
func spec(w *v1alpha1.MaintenanceWindow) *v1alpha1.HostSpec {
	return &v1alpha1.HostSpec{
		TypeMeta: meta.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindHostSpec}, Metadata: meta.ObjectMeta{Name: "web"},
		Spec: v1alpha1.HostSpecSpec{Remote: "prod", MaintenanceWindow: w},
	}
}
