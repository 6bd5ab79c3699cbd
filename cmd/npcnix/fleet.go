package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
)

const (
	// readers is how many documents are read at a time.
	readers = 32
	// silence is how long a host may be silent: three heartbeats.
	silence = 15 * time.Minute
)

// fleet is what the store says of all hosts.
type fleet struct{ hosts []fleetHost }

// fleetHost is one host: its view, and what the view cannot say.
type fleetHost struct {
	view                               v1alpha1.Host
	specDigest, overrideDigest         string
	specUnreadable, overrideUnreadable bool
}

// readFleet reads the union of the declared and the reporting hosts, sorted by
// name; of the named ones only, if any are named.
func (c *cli) readFleet(ctx context.Context, s store.Store, names []string) (fleet, error) {
	seen := map[string]bool{}
	if len(names) > 0 {
		for _, name := range names {
			seen[name] = true
		}
	} else {
		for _, prefix := range []string{store.HostSpecs, store.Statuses} {
			if err := c.listNames(ctx, s, prefix, seen); err != nil {
				return fleet{}, err
			}
		}
	}
	f := fleet{hosts: make([]fleetHost, len(seen))}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i, name := range slices.Sorted(maps.Keys(seen)) {
		group.Go(func() (err error) {
			f.hosts[i], err = c.readHost(ctx, s, name)
			return err
		})
	}
	return f, group.Wait() //nolint:wrapcheck // each says operation and key
}

// check returns errNotFound if the store has nothing of one of the hosts.
func (f fleet) check() error {
	for _, h := range f.hosts {
		if h.view.Spec == nil && h.view.LastSeen == nil && h.view.Override == nil && !h.specUnreadable && !h.overrideUnreadable {
			return fmt.Errorf("host %s: %w in the store", h.view.Metadata.Name, errNotFound)
		}
	}
	return nil
}

// listNames adds the names of the documents below a prefix.
func (c *cli) listNames(ctx context.Context, s store.Store, prefix string, names map[string]bool) error {
	for info, err := range s.List(ctx, prefix) {
		if err != nil {
			return err
		}
		name, ok := store.Name(prefix, info.Key)
		if !ok || name == "kustomization" {
			c.note("left out %s, which is no host's document", info.Key)
			continue
		}
		names[name] = true
	}
	return nil
}

func (c *cli) readHost(ctx context.Context, s store.Store, name string) (fleetHost, error) {
	h := fleetHost{view: v1alpha1.Host{
		TypeMeta: meta.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindHost},
		Metadata: meta.ObjectMeta{Name: name},
	}}
	spec, specRaw, err := get[v1alpha1.HostSpec](ctx, c, s, store.HostSpecKey(name), v1alpha1.KindHostSpec)
	if errors.Is(err, errUnreadable) {
		h.specUnreadable, err = true, nil
	}
	if err != nil {
		return h, err
	}
	if err := h.readOverride(ctx, c, s); err != nil {
		return h, err
	}
	status, statusRaw, err := get[v1alpha1.HostStatus](ctx, c, s, store.StatusKey(name), v1alpha1.KindHostStatus)
	if err != nil && !errors.Is(err, errUnreadable) {
		return h, err
	}
	if status != nil {
		h.view.Metadata, h.view.Status = status.Metadata, &status.Status
		h.view.Metadata.Name = name
	}
	if statusRaw.Key != "" {
		h.view.LastSeen = new(meta.NewTime(statusRaw.LastModified))
	}
	if spec != nil { // what is declared beats what was reported
		h.view.Metadata, h.view.Spec = spec.Metadata, &spec.Spec
		h.view.Metadata.Name = name
		if h.specDigest, err = codec.SpecDigest(codec.Document{Raw: specRaw.Data}); err != nil {
			return h, err
		}
	}
	return h, nil
}

// readOverride adds what operators ask of the host.
func (h *fleetHost) readOverride(ctx context.Context, c *cli, s store.Store) error {
	override, raw, err := get[v1alpha1.HostOverride](ctx, c, s, store.OverrideKey(h.view.Metadata.Name), v1alpha1.KindHostOverride)
	switch {
	case errors.Is(err, errUnreadable):
		h.overrideUnreadable = true
		return nil
	case err != nil || override == nil:
		return err
	}
	h.view.Override = &override.Spec
	h.overrideDigest, err = codec.SpecDigest(codec.Document{Raw: raw.Data})
	return err
}

// errUnreadable is returned for a document that cannot be understood; the
// person was told.
var errUnreadable = errors.New("unreadable document")

// get reads a document for showing it; one that is not there is nil.
func get[T any](ctx context.Context, c *cli, s store.Store, key, kind string) (*T, document.Raw, error) {
	obj, raw, err := document.Get[T](ctx, s, key, kind)
	var invalid *codec.InvalidError
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, document.Raw{}, nil
	case errors.As(err, &invalid), errors.Is(err, store.ErrTooLarge):
		c.note("%v", err)
		return nil, raw, errUnreadable
	default:
		return obj, raw, err
	}
}

// ready judges the host as its status says, or Unknown where it has said
// nothing for too long.
func (h fleetHost) ready(now time.Time) (status meta.ConditionStatus, reason, message string) {
	switch {
	case h.view.LastSeen == nil:
		return meta.Unknown, v1alpha1.ReasonNoStatus, "The host has never reported."
	case h.view.Status == nil:
		return meta.Unknown, v1alpha1.ReasonStatusUnreadable, "The host's status cannot be understood by this version of npcnix."
	case now.Sub(h.view.LastSeen.Time) > silence:
		return meta.Unknown, v1alpha1.ReasonSilent, "Unknown since " + h.view.LastSeen.UTC().Format(time.RFC3339) + "; the host has not reported for three heartbeats."
	}
	c := meta.FindCondition(h.view.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case c == nil:
		return meta.Unknown, v1alpha1.ReasonNoStatus, "The host's status has no condition Ready."
	case c.Status == meta.True && h.view.Spec == nil && !h.specUnreadable:
		return meta.Unknown, v1alpha1.ReasonUndeclared, "The host was Ready, and is not declared any more. npcnix delete host --purge removes it from this list."
	case c.Status == meta.True && h.outdated():
		return meta.Unknown, v1alpha1.ReasonOutdated, "The host was Ready, but has not looked at the present HostSpec yet."
	}
	return c.Status, c.Reason, c.Message
}

// outdated reports whether the status is about another HostSpec than the
// present one.
func (h fleetHost) outdated() bool {
	observed := h.view.Status.Observed.Spec
	return h.specDigest != "" && observed != nil && observed.Digest != h.specDigest
}

// remote returns the remote that the host follows: what it observed, as
// generation and revision are of that one, else what is declared.
func (h fleetHost) remote() string {
	switch {
	case h.view.Status != nil && h.view.Status.Observed.Remote != nil:
		return h.view.Status.Observed.Remote.Name
	case h.view.Spec != nil:
		return h.view.Spec.Remote
	default:
		return ""
	}
}

// inForce reports whether a host is Ready with what it observed. Where its
// policy activates nothing, Ready is about another system.
func inForce(conditions []meta.Condition) bool {
	activated := meta.FindCondition(conditions, v1alpha1.ConditionActivated)
	return meta.IsTrue(conditions, v1alpha1.ConditionReady) && (activated == nil || activated.Status != meta.False)
}

// running returns the remote generation and the revision that the host runs:
// what it observed if that is in force, else that of the attempt which brought
// its running system into force. Both are empty where a person switched it.
func (h fleetHost) running() (generation int64, revision string) {
	s := h.view.Status
	if s == nil {
		return 0, ""
	}
	if r := s.Observed.Remote; r != nil && inForce(s.Conditions) {
		return r.Generation, v1alpha1.FullRevision(r.Revision, r.Dirty)
	}
	attempts := s.History
	if s.LastAttempt != nil {
		attempts = append([]v1alpha1.Attempt{*s.LastAttempt}, attempts...)
	}
	for _, a := range attempts {
		if !a.InForce() || s.System == nil || a.Target != s.System.Current {
			continue
		}
		if a.Remote != "" && a.Remote != h.remote() { // another remote counts its own generations
			return 0, a.Revision
		}
		return a.RemoteGeneration, a.Revision
	}
	return 0, ""
}
