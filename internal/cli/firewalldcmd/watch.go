package firewalldcmd

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"richwall/internal/fault"
)

// settle is how long changes of files are collected: an editor writes a file in several steps, and whoever edits one by hand
// reloads soon afterwards, so that there is nothing to tell. firewalld waits as long.
const settle = 5 * time.Second

// watcher tells which files of a folder, and of the folders in it, somebody writes. It watches folders, because editors put
// a new file in the place of the old one.
type watcher struct {
	files   *fsnotify.Watcher
	settle  time.Duration
	log     *slog.Logger
	touched func(paths []string)
}

// watch calls touched with the files of a folder that came, changed or went, some time after the first of them did, until the
// watcher is closed. The error is that the kernel cannot watch.
func watch(folder string, settle time.Duration, log *slog.Logger, touched func(paths []string)) (*watcher, error) {
	files, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{files: files, settle: settle, log: log, touched: touched}
	w.add(folder)
	go func() {
		for fault.Guard(log, "watching files", w.run) != nil { // what was collected so far is lost
		}
	}()
	return w, nil
}

// add watches a folder and those below it, and returns the files in them.
func (w *watcher) add(folder string) (found []string) {
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return w.files.Add(path)
		}
		found = append(found, path)
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		w.log.Warn("changes that others make to files will not be noticed", "folder", folder, "reason", err)
	}
	return found
}

// run collects events.
func (w *watcher) run() {
	paths := map[string]bool{}
	var due <-chan time.Time
	for {
		select {
		case event, ok := <-w.files.Events:
			if !ok {
				return
			}
			for _, path := range w.concerned(event) {
				paths[path] = true
				if due == nil {
					due = time.After(w.settle)
				}
			}
		case err, ok := <-w.files.Errors:
			if !ok {
				return
			}
			w.log.Warn("some changes of files may not have been noticed", "reason", err)
		case <-due:
			var list []string
			for path := range paths {
				list = append(list, path)
			}
			paths, due = map[string]bool{}, nil
			w.touched(list)
		}
	}
}

// concerned are the configuration files that an event is about. Those in a new folder may be older than the watch on it.
func (w *watcher) concerned(event fsnotify.Event) []string {
	paths := []string{event.Name}
	if info, err := os.Stat(event.Name); err == nil && info.IsDir() && event.Has(fsnotify.Create) {
		paths = w.add(event.Name)
	}
	var list []string
	for _, path := range paths {
		if name := filepath.Base(path); !event.Has(fsnotify.Chmod) && !strings.HasPrefix(name, ".") &&
			(strings.HasSuffix(name, ".xml") || strings.HasSuffix(name, ".conf")) {
			list = append(list, path)
		}
	}
	return list
}
