package ir

import (
	"encoding/json"
	"reflect"
	"strings"
)

// MarshalJSON writes a rule with each match and action as an object whose "type" is the name of its Go type, in small
// letters, beside its fields that are not zero:
//
//	{"matches": [{"type": "port", "side": "dest", "protocol": "tcp", "low": 22, "high": 22}], "actions": [{"type": "accept"}], …}
func (r *Rule) MarshalJSON() ([]byte, error) {
	out := struct {
		Families Families         `json:"families"`
		Priority int              `json:"order"`
		Matches  []map[string]any `json:"matches"`
		Actions  []map[string]any `json:"actions"`
		Origin   *Origin          `json:"origin,omitempty"`
	}{Families: r.Families, Priority: r.Order, Matches: []map[string]any{}, Actions: []map[string]any{}, Origin: r.Origin}
	for _, m := range r.Matches {
		out.Matches = append(out.Matches, tagged(m))
	}
	for _, a := range r.Actions {
		out.Actions = append(out.Actions, tagged(a))
	}
	return json.Marshal(out)
}

// MarshalJSON writes an origin with the text that it comes from.
func (o *Origin) MarshalJSON() ([]byte, error) {
	type plain Origin
	written := plain(*o)
	written.Text = o.Said()
	return json.Marshal(&written)
}

// MarshalJSON writes a set of IP versions by its name.
func (f Families) MarshalJSON() ([]byte, error) { return json.Marshal(f.String()) }

// MarshalJSON writes the end of a packet by its name.
func (s Side) MarshalJSON() ([]byte, error) { return json.Marshal(dumpField(s)) }

// MarshalJSON writes an element as ipset takes it; that of a map as an object of that and its verdict or size.
func (e Element) MarshalJSON() ([]byte, error) {
	switch {
	case e.Size() != 0:
		return json.Marshal(map[string]any{"element": e.Text, "size": e.Size()})
	case e.Verdict() == nil:
		return json.Marshal(e.Text)
	}
	return json.Marshal(map[string]any{"element": e.Text, "verdict": tagged(e.Verdict())})
}

// tagged is a match or an action as a JSON object.
func tagged(v any) map[string]any {
	switch v := v.(type) {
	case Verdict:
		return map[string]any{"type": string(v)}
	case Lookup:
		object := map[string]any{"type": "lookup", "side": v.Side, "set": v.Set.Name}
		if v.Invert {
			object["invert"] = true
		}
		return object
	case Decide:
		return map[string]any{"type": "decide", "map": v.Map.Name}
	}
	rv := reflect.ValueOf(v)
	clamp, isClamp := v.(ClampMSS)
	object := map[string]any{"type": strings.ToLower(rv.Type().Name())}
	for i := range rv.NumField() {
		field := rv.Field(i)
		_, side := field.Interface().(Side)
		if field.IsZero() && !side || side && isClamp && clamp.Links == "" {
			continue
		}
		value := field.Interface()
		if unit, ok := value.(byte); ok {
			value = string(rune(unit))
		}
		object[strings.ToLower(rv.Type().Field(i).Name)] = value
	}
	return object
}
