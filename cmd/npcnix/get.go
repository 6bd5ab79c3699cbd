package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store"
)

type getOptions struct {
	output    string
	selector  string
	noHeaders bool
}

func (c *cli) getCommand() *cobra.Command {
	var o getOptions
	cmd := group("get", "Show hosts or remotes",
		&cobra.Command{
			Use: "hosts [NAME…]", Aliases: []string{"host"}, Short: "Show what hosts are declared and what they say of themselves",
			RunE: func(cmd *cobra.Command, args []string) error { return c.getHosts(cmd.Context(), hostNames(args), o) },
		},
		&cobra.Command{
			Use: "remotes [NAME…]", Aliases: []string{"remote"}, Short: "Show the newest generation of each remote",
			RunE: func(cmd *cobra.Command, args []string) error { return c.getRemotes(cmd.Context(), args, o) },
		},
	)
	f := cmd.PersistentFlags()
	f.StringVarP(&o.output, "output", "o", "", "wide, json, yaml or name")
	f.StringVarP(&o.selector, "selector", "l", "", "show only what these labels match, such as role=web,env!=prod")
	f.BoolVar(&o.noHeaders, "no-headers", false, "print no header line")
	return cmd
}

// check validates the options and parses the selector.
func (o getOptions) check() (labels.Selector, error) { //nolint:ireturn // the library's own
	if !slices.Contains([]string{"", "wide", "json", "yaml", "name"}, o.output) {
		return nil, fmt.Errorf("%w: -o %s: expected wide, json, yaml or name", errUsage, o.output)
	}
	return parseSelector(o.selector)
}

// parseSelector reads what -l says; empty is everything.
func parseSelector(s string) (labels.Selector, error) { //nolint:ireturn // the library's own
	selector, err := labels.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%w: -l: %w", errUsage, err)
	}
	return selector, nil
}

// openToGet checks the options before it opens the store.
func (c *cli) openToGet(ctx context.Context, o getOptions) (labels.Selector, store.Store, error) { //nolint:ireturn // the library's, and whichever store it is
	selector, err := o.check()
	if err != nil {
		return nil, nil, err
	}
	s, err := c.open(ctx)
	return selector, s, err
}

// printNames prints what -o name prints: kind/name, one a line.
func printNames[T any](c *cli, kind string, items []T, name func(T) string) error {
	for _, item := range items {
		if err := c.print("%s/%s", kind, name(item)); err != nil {
			return err
		}
	}
	return nil
}

func (c *cli) getHosts(ctx context.Context, names []string, o getOptions) error {
	selector, s, err := c.openToGet(ctx, o)
	if err != nil {
		return err
	}
	f, err := c.readFleet(ctx, s, names)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	hosts := slices.DeleteFunc(f.hosts, func(h fleetHost) bool { return !selector.Matches(labels.Set(h.view.Metadata.Labels)) })
	switch o.output {
	case "name":
		return printNames(c, "host", hosts, func(h fleetHost) string { return h.view.Metadata.Name })
	case "json", "yaml":
		return c.printHosts(hosts, len(names) == 1, o.output)
	default:
		return c.tableOfHosts(hosts, o)
	}
}

func (c *cli) printHosts(hosts []fleetHost, single bool, format string) error {
	list := v1alpha1.HostList{
		TypeMeta: meta.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindHostList}, Items: []v1alpha1.Host{},
	}
	for _, h := range hosts {
		list.Items = append(list.Items, h.view)
	}
	if single && len(list.Items) == 1 {
		return c.printObject(format, list.Items[0])
	}
	return c.printObject(format, list)
}

func (c *cli) tableOfHosts(hosts []fleetHost, o getOptions) error {
	if len(hosts) == 0 {
		c.note("no hosts")
		return nil
	}
	t := table{w: c.out, terminal: c.terminal, noHeaders: o.noHeaders}
	headers := []string{"NAME", "READY", "REASON", "REMOTE", "GENERATION", "REVISION", "SEEN"}
	if o.output == "wide" {
		headers = append(headers, "SYSTEM", "NIXOS", "AGENT", "MESSAGE")
	}
	for _, h := range hosts {
		t.add(c.hostRow(h, o.output == "wide")...)
	}
	return t.print(headers...)
}

func (c *cli) hostRow(h fleetHost, wide bool) []string {
	status, reason, message := h.ready(c.now())
	if reason != v1alpha1.ReasonSuspended && len(h.suspensions(c.now())) > 0 {
		reason += "," + v1alpha1.ReasonSuspended // as kubectl shows SchedulingDisabled
	}
	generation, revision := h.running()
	seen := ""
	if h.view.LastSeen != nil {
		seen = c.when(h.view.LastSeen.Time)
	}
	row := []string{h.view.Metadata.Name, string(status), reason, h.remote(), number(generation), v1alpha1.ShortRevision(revision), seen}
	if !wide {
		return row
	}
	system, nixos, agent := "", "", ""
	if s := h.view.Status; s != nil {
		agent = s.Agent.Version
		if s.System != nil {
			system, nixos = s.System.Current, s.System.NixOSVersion
		}
	}
	return append(row, system, nixos, agent, message)
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func (c *cli) getRemotes(ctx context.Context, names []string, o getOptions) error {
	selector, s, err := c.openToGet(ctx, o)
	if err != nil {
		return err
	}
	remotes, err := c.readRemotes(ctx, s, names)
	if err != nil {
		return err
	}
	remotes = slices.DeleteFunc(remotes, func(r v1alpha1.Remote) bool { return !selector.Matches(labels.Set(r.Metadata.Labels)) })
	switch o.output {
	case "name":
		return printNames(c, "remote", remotes, func(r v1alpha1.Remote) string { return r.Metadata.Name })
	case "json", "yaml":
		if len(names) == 1 && len(remotes) == 1 {
			return c.printObject(o.output, remotes[0])
		}
		return c.printObject(o.output, v1alpha1.RemoteList{
			TypeMeta: meta.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindRemoteList}, Items: remotes,
		})
	default:
		return c.tableOfRemotes(remotes, o)
	}
}

// readRemotes reads the named remotes, or all.
func (c *cli) readRemotes(ctx context.Context, s store.Store, names []string) ([]v1alpha1.Remote, error) {
	named := len(names) > 0
	if !named {
		seen := map[string]bool{}
		if err := c.listNames(ctx, s, store.Remotes, seen); err != nil {
			return nil, err
		}
		for name := range seen {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	remotes := []v1alpha1.Remote{}
	for _, name := range slices.Compact(names) {
		r, _, err := get[v1alpha1.Remote](ctx, c, s, store.RemoteKey(name), v1alpha1.KindRemote)
		switch {
		case err == nil && r != nil:
			remotes = append(remotes, *r)
		case err == nil && named:
			return nil, fmt.Errorf("remote %s: %w in the store", name, errNotFound)
		case err != nil && !isUnreadable(err):
			return nil, err
		}
	}
	return remotes, nil
}

func (c *cli) tableOfRemotes(remotes []v1alpha1.Remote, o getOptions) error {
	if len(remotes) == 0 {
		c.note("no remotes")
		return nil
	}
	t := table{w: c.out, terminal: c.terminal, noHeaders: o.noHeaders}
	headers := []string{"NAME", "GENERATION", "REVISION", "PUBLISHED"}
	if o.output == "wide" {
		headers = append(headers, "BY", "REPOSITORY", "SIZE", "DIGEST")
	}
	for _, r := range remotes {
		row := []string{r.Metadata.Name, number(r.Metadata.Generation), v1alpha1.ShortRevision(r.Spec.Source.FullRevision()), c.when(r.Spec.PublishedAt.Time)}
		if o.output == "wide" {
			row = append(row, r.Spec.PublishedBy, repository(r), number(r.Spec.Archive.Size), r.Spec.Archive.Digest)
		}
		t.add(row...)
	}
	return t.print(headers...)
}

func repository(r v1alpha1.Remote) string {
	if r.Spec.Source == nil {
		return ""
	}
	return r.Spec.Source.Repository
}
