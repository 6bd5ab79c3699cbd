package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/npcnix/npcnix/store"
)

// chosen are the hosts that a verb is for.
type chosen struct {
	names    []string
	selector string
	all      bool
}

// hostNames takes hosts as they are printed, host/NAME, for their names.
func hostNames(args []string) []string { return namesOf("host", args) }

// namesOf takes KIND/NAME for NAME.
func namesOf(kind string, args []string) []string {
	names := slices.Clone(args)
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], kind+"/")
	}
	return names
}

func (o *chosen) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.selector, "selector", "l", "", "the declared hosts whose labels match, such as role=web,env!=prod")
	f.BoolVar(&o.all, "all", false, "all declared hosts")
}

// choose opens the store and reads the hosts. That they are there is seen to: an
// override of a name that was mistyped would do nothing, silently.
func (c *cli) choose(ctx context.Context, o chosen) (store.Store, fleet, error) { //nolint:ireturn // whichever store it is
	ways := 0
	for _, chosen := range []bool{len(o.names) > 0, o.selector != "", o.all} {
		if chosen {
			ways++
		}
	}
	if ways != 1 {
		return nil, fleet{}, fmt.Errorf("%w: choose hosts by their names, with -l SELECTOR, or with --all: one of the three", errUsage)
	}
	selector, err := parseSelector(o.selector)
	if err != nil {
		return nil, fleet{}, err
	}
	s, err := c.open(ctx)
	if err != nil {
		return nil, fleet{}, err
	}
	f, err := c.readFleet(ctx, s, hostNames(o.names))
	if err == nil {
		err = f.check()
	}
	if err != nil {
		return nil, f, fmt.Errorf("nobody was asked: %w", err)
	}
	if len(o.names) > 0 {
		return s, f, nil
	}
	f.hosts = slices.DeleteFunc(f.hosts, func(h fleetHost) bool { // an unreadable HostSpec declares its host, too
		return (h.view.Spec == nil && !h.specUnreadable) || !selector.Matches(labels.Set(h.view.Metadata.Labels))
	})
	if len(f.hosts) == 0 { // as with a name that was mistyped
		return nil, f, fmt.Errorf("%w: no host is declared that matches %q", errNotFound, o.selector)
	}
	return s, f, nil
}

// answer is what is told of a host that was asked for something.
type answer struct {
	words string
	notes []string
}

func (a *answer) note(format string, args ...any) {
	a.notes = append(a.notes, fmt.Sprintf(format, args...))
}

// each asks hosts for something, many at a time, and tells what came of it. That
// one cannot be asked leaves the others alone.
func (c *cli) each(ctx context.Context, hosts []fleetHost, ask func(ctx context.Context, h fleetHost) (answer, error)) error {
	answers, errs := make([]answer, len(hosts)), make([]error, len(hosts))
	var group errgroup.Group
	group.SetLimit(readers)
	for i, h := range hosts {
		group.Go(func() error {
			answers[i], errs[i] = ask(ctx, h)
			return nil
		})
	}
	_ = group.Wait() // each has its own
	for i, h := range hosts {
		name := h.view.Metadata.Name
		if errs[i] != nil {
			errs[i] = fmt.Errorf("asking host %s failed: %w", name, errs[i])
			continue
		}
		if err := c.print("host/%s %s", name, answers[i].words); err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, note := range answers[i].notes {
			c.note("%s: %s", name, note)
		}
	}
	return errors.Join(errs...)
}
