package zones

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Ports outside of others are found as by looking at each number.
func TestOutside(t *testing.T) {
	ranges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) portRange {
		low := rapid.IntRange(0, 20).Draw(t, "low")
		return portRange{low, low + rapid.IntRange(0, 5).Draw(t, "more"), rapid.SampledFrom([]string{"tcp", "udp"}).Draw(t, "protocol")}
	}), 0, 8)
	rapid.Check(t, func(t *rapid.T) {
		list, others := ranges.Draw(t, "list"), ranges.Draw(t, "others")
		var got, want []string
		for _, p := range numbersOf(outside(list, others)) {
			for n := p.low; n <= p.high; n++ {
				got = append(got, fmt.Sprint(n, p.protocol))
			}
		}
		for _, p := range list {
			for n := p.low; n <= p.high; n++ {
				if !slices.ContainsFunc(others, func(o portRange) bool { return o.covers(portRange{n, n, p.protocol}) }) {
					want = append(want, fmt.Sprint(n, p.protocol))
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("outside of %v, %v has %v, want %v", others, list, got, want)
		}
	})
}

// Taking out what an edit has added gives the configuration before it, whatever stood there and whatever is added; as long as any of it is
// there, that is said.
func TestWithoutWhatWasAdded(t *testing.T) {
	start := prepared(t)
	rapid.Check(t, func(t *rapid.T) {
		c, o := start, publicZone
		for range rapid.IntRange(0, 5).Draw(t, "edits before") {
			if next, err := Apply(c, Add(Runtime, o, item(rapid.SampledFrom(someItems[o]).Draw(t, "item")))); err == nil {
				c = next
			}
		}
		next := c
		for range rapid.IntRange(1, 5).Draw(t, "edits") {
			if edited, err := Apply(next, Add(Runtime, o, item(rapid.SampledFrom(someItems[o]).Draw(t, "added")))); err == nil {
				next = edited
			}
		}
		var added []Item
		for _, change := range Difference(c, next) {
			added = append(added, change.Added...)
		}
		if HasAny(next, Runtime, o, added) != (len(added) > 0) || HasAny(c, Runtime, o, added) {
			t.Errorf("%v is said to be there before, or not to be there afterwards", added)
		}
		again, err := Without(Runtime, o, added)(next)
		if err != nil {
			t.Fatal(err)
		}
		if changes := Difference(c, again); changes != nil {
			t.Errorf("without %v, there are still %v", added, changes)
		}
		if third, err := Without(Runtime, o, added)(again); err != nil || !reflect.DeepEqual(third, again) {
			t.Errorf("taken out again, it is another configuration: %v", err)
		}
	})
}
