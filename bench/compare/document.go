package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// What --write writes.
const (
	documentFile = "docs/performance.md"
	plotFile     = "docs/packet-cost.svg"
)

// The lines of the document between which the tables stand.
const (
	firstMarker = "<!-- make bench writes this -->\n"
	lastMarker  = "<!-- up to here -->\n"
)

// deliver prints a report, and writes the files that are asked for; into documents only one that is whole.
func deliver(r *report, o *options, whole bool, stdout io.Writer) error {
	if err := r.writeTables(stdout); err != nil {
		return err
	}
	if o.jsonFile != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.jsonFile, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if !o.write {
		return nil
	}
	if !whole {
		return fmt.Errorf("%s is as it was: not everything could be measured", documentFile)
	}
	return document(r)
}

// read reads what --json wrote.
func read(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return r, nil
}

// document writes the tables into the document, and the plot.
func document(r *report) error {
	var tables, plot bytes.Buffer
	if err := errors.Join(r.writeTables(&tables), r.writePlot(&plot)); err != nil {
		return err
	}
	text, err := withTables(documentFile, tables.String())
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(documentFile, []byte(text), 0o644), os.WriteFile(plotFile, plot.Bytes(), 0o644))
}

// withTables is the text of a document with other tables between its markers.
func withTables(path, tables string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot write into %s: it is not there; run this in the project's own folder", path)
	}
	if err != nil {
		return "", err
	}
	before, rest, ok := strings.Cut(string(text), firstMarker)
	_, after, both := strings.Cut(rest, lastMarker)
	if !ok || !both {
		return "", fmt.Errorf("cannot write into %s: it lacks the line %q or, behind it, %q", path, firstMarker, lastMarker)
	}
	return before + firstMarker + "\n" + tables + "\n" + lastMarker + after, nil
}
