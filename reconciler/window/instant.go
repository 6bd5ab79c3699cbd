package window

import "time"

// around is how far an offset from UTC reaches, and more: no zone was ever a
// day and two hours off.
const around = 26 * time.Hour

// A wall is a local time without its zone: the seconds since 1970 that a clock
// on the wall would say, were it UTC.
type wall int64

const day = 24 * 60 * 60

// midnight is the beginning of the day that w is in.
func (w wall) midnight() wall {
	past := w % day
	if past < 0 {
		past += day
	}
	return w - past
}

func (w wall) weekday() time.Weekday { return time.Unix(int64(w), 0).UTC().Weekday() }

// segment is a stretch of time with one offset from UTC.
type segment struct {
	start, end int64 // Unix seconds; end is exclusive
	offset     int64 // seconds east of UTC
}

// segments returns those that cover from until to, in order.
func segments(zone *time.Location, from, to int64) []segment {
	var list []segment
	for at := from; at < to; {
		t := time.Unix(at, 0).In(zone)
		_, offset := t.Zone()
		_, end := t.ZoneBounds()
		s := segment{start: at, end: to, offset: int64(offset)}
		switch {
		case end.IsZero() || end.Unix() >= to:
		case end.Unix() > at:
			s.end = end.Unix()
		default: // Go 1.26 says so at the ends of leap years after 2037: nothing jumps there
			s.end = min(to, at+int64(time.Hour/time.Second))
		}
		list = append(list, s)
		at = s.end
	}
	return list
}

// onDay returns the first instant at which the wall shows at least w, on the
// day of w. ok is false for a day that does not exist, and for a time after
// which none of its day exists.
func onDay(zone *time.Location, w wall) (instant int64, ok bool) {
	return first(zone, w, w.midnight()+day)
}

// from returns the first instant at which the wall shows at least w.
func from(zone *time.Location, w wall) int64 {
	instant, _ := first(zone, w, w+2*wall(around/time.Second))
	return instant
}

// first returns the first instant at which the wall shows a time in [w, end).
func first(zone *time.Location, w, end wall) (instant int64, ok bool) {
	reach := int64(around / time.Second)
	if instant, ok := plain(zone, w, int64(w)-reach, int64(end)+reach); ok {
		return instant, true
	}
	for _, s := range segments(zone, int64(w)-reach, int64(end)+reach) {
		at := max(s.start, int64(w)-s.offset)
		if at < s.end && at+s.offset < int64(end) {
			return at, true
		}
	}
	return 0, false
}

// plain is first where the zone's clock does not jump all the while.
func plain(zone *time.Location, w wall, start, end int64) (instant int64, ok bool) {
	t := time.Unix(start, 0).In(zone)
	_, offset := t.Zone()
	if _, jump := t.ZoneBounds(); !jump.IsZero() && jump.Unix() < end {
		return 0, false
	}
	return int64(w) - int64(offset), true
}
