package main

import (
	"slices"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// suspension is one of the things that suspend a host, as far as its documents
// tell, and its status of a person on the host.
type suspension struct {
	v1alpha1.Suspend

	by   string // such as "by its HostSpec"
	seen bool   // the host knows of it
	lift string // what lifts it
}

// byOverride is what suspend brings about.
const byOverride = "by its HostOverride"

// overridden is what suspend brought about before, if that is not over.
func (h fleetHost) overridden(now time.Time) (s suspension, was bool) {
	list := h.suspensions(now)
	i := slices.IndexFunc(list, func(s suspension) bool { return s.by == byOverride })
	if i < 0 {
		return suspension{}, false
	}
	return list[i], true
}

// holds reports whether a document suspends, and that is not over.
func holds(s *v1alpha1.Suspend, now time.Time) bool {
	return s != nil && (s.Until == nil || now.Before(s.Until.Time))
}

// suspendedBy says how a HostOverride suspends its host, if that is not over; ""
// where it does not, or cannot be read.
func suspendedBy(override []byte, now time.Time) string {
	o, err := codec.DecodeLenient[v1alpha1.HostOverride](codec.Document{Raw: override}, v1alpha1.KindHostOverride)
	if err != nil || !holds(o.Spec.Suspend, now) {
		return ""
	}
	return suspension{Suspend: *o.Spec.Suspend, by: byOverride}.String()
}

// overrideSeen reports whether the host knows its present HostOverride.
func (h fleetHost) overrideSeen() bool {
	s := h.view.Status
	return s != nil && s.Observed.Override != nil && s.Observed.Override.Digest == h.overrideDigest
}

// outlasts reports whether a suspension ends later than another, or never.
func (s suspension) outlasts(other *v1alpha1.Suspend) bool {
	return other.Until != nil && (s.Until == nil || s.Until.After(other.Until.Time))
}

// String says by what, why and until when: "by its HostSpec (INC-42)".
func (s suspension) String() string {
	text := s.by
	if s.Reason != "" {
		text += " (" + s.Reason + ")"
	}
	if s.Until != nil {
		text += " until " + s.Until.UTC().Format(time.RFC3339)
	}
	return text
}

// suspensions are what suspends a host at now.
func (h fleetHost) suspensions(now time.Time) (list []suspension) {
	add := func(suspend *v1alpha1.Suspend, s suspension) {
		if holds(suspend, now) {
			s.Suspend = *suspend
			list = append(list, s)
		}
	}
	status := h.view.Status
	if h.view.Spec != nil {
		add(h.view.Spec.Suspend, suspension{by: "by its HostSpec", seen: status != nil && !h.outdated(), lift: "take spec.suspend out of it"})
	}
	if h.view.Override != nil {
		add(h.view.Override.Suspend, suspension{by: byOverride, seen: h.overrideSeen(), lift: "npcnix resume " + h.view.Metadata.Name})
	}
	if status != nil {
		add(status.LocalSuspension, suspension{by: "on the host", seen: true, lift: "npcnix-reconciler resume, on the host"})
	}
	return list
}
