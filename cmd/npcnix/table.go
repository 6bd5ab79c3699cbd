package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
)

// table prints rows: aligned on a terminal, tab-separated elsewhere.
type table struct {
	w         io.Writer
	terminal  bool
	noHeaders bool
	rows      [][]string
}

func (t *table) add(cells ...string) {
	for i, cell := range cells {
		cell = strings.NewReplacer("\n", " ", "\t", " ").Replace(cell)
		if cell = printable(cell); cell == "" {
			cell = "-"
		}
		cells[i] = cell
	}
	t.rows = append(t.rows, cells)
}

func (t *table) print(headers ...string) error {
	w := t.w
	if t.terminal {
		w = tabwriter.NewWriter(t.w, 0, 0, 3, ' ', 0)
	}
	rows := t.rows
	if !t.noHeaders {
		rows = append([][]string{headers}, rows...)
	}
	for _, row := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return fmt.Errorf("print table: %w", err)
		}
	}
	if flusher, ok := w.(*tabwriter.Writer); ok {
		if err := flusher.Flush(); err != nil {
			return fmt.Errorf("print table: %w", err)
		}
	}
	return nil
}

// printObject prints an object as JSON or YAML.
func (c *cli) printObject(format string, obj any) error {
	var data []byte
	var err error
	if format == "json" {
		if data, err = json.MarshalIndent(obj, "", "  "); err == nil {
			data = append(codec.EscapeUnprintable(data), '\n')
		}
	} else {
		data, err = codec.Encode(obj)
	}
	if err == nil {
		_, err = c.out.Write(data)
	}
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// when shows an instant: as an age on a terminal, as RFC 3339 elsewhere.
func (c *cli) when(t time.Time) string {
	if !c.terminal {
		return t.UTC().Format(time.RFC3339)
	}
	return age(c.now().Sub(t)) + " ago"
}

// age writes a duration as kubectl does, in its greatest unit or two.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 3*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// left is a time until something, to the minute, or to the second where it is less;
// beyond two days as an age is: 5h12m, 40s, 3d.
func left(d time.Duration) string {
	const days = 48 * time.Hour
	switch {
	case d < time.Minute:
		return meta.Short(d.Round(time.Second))
	case d < days:
		return meta.Short(d.Round(time.Minute))
	default:
		return age(d)
	}
}
