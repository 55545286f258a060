package bus

import (
	"slices"
	"strconv"

	"richwall/zones"
)

// Settings of an object are a dictionary or, in the older form, a structure. Package zones has lists as rows of texts.

// toSetting is a plain value as package zones has it.
func toSetting(value any) any {
	switch v := value.(type) {
	case []string:
		rows := make([][]string, len(v))
		for i := range v {
			rows[i] = v[i : i+1 : i+1]
		}
		return rows
	case map[string]string:
		rows := [][]string{}
		for _, name := range zones.Names(v) {
			rows = append(rows, []string{name, v[name]})
		}
		return rows
	case []any:
		rows := make([][]string, len(v))
		for i, row := range v {
			rows[i] = flatten(row.([]any))
		}
		return rows
	}
	return value
}

// internalDefault is how firewalld's own clients spell the default target when they make a zone.
const internalDefault = "{chain}_{zone}"

// setting is a plain value of a field as package zones has it.
func (f field) setting(value any) any {
	if f.key == zones.KeyTarget && value == internalDefault {
		return zones.TargetDefault
	}
	if f.key == zones.KeyEntry { // of which there may be very many
		return value
	}
	return toSetting(value)
}

// flatten is plain values one after the other, as texts.
func flatten(values []any) []string {
	var list []string
	for _, value := range values {
		switch v := value.(type) {
		case string:
			list = append(list, v)
		case int:
			list = append(list, strconv.Itoa(v))
		case []string:
			list = append(list, v...)
		}
	}
	return list
}

// fromSetting is a value of package zones as a plain value of a signature.
func fromSetting(sig string, value any) any {
	rows, ok := value.([][]string)
	switch {
	case !ok:
		return value
	case sig == "as":
		list := make([]string, len(rows))
		for i, row := range rows {
			list[i] = row[0]
		}
		return list
	case sig == "a{ss}":
		texts := map[string]string{}
		for _, row := range rows {
			texts[row[0]] = row[1]
		}
		return texts
	}
	return rows
}

// toDict is settings as a dictionary, without empty texts and lists.
func (k *kind) toDict(settings zones.Settings) dict {
	d := dict{}
	for _, f := range k.fields {
		value := settings[f.key]
		if rows, ok := value.([][]string); value == "" || ok && len(rows) == 0 {
			continue
		}
		d[f.dict] = typed{f.sig, fromSetting(f.sig, value)}
	}
	return d
}

// fromDict is the settings in a dictionary. Errors have code INVALID_OPTION, for a key that does not exist, or INVALID_TYPE.
func (k *kind) fromDict(d dict) (zones.Settings, error) {
	settings := zones.Settings{}
	for _, key := range zones.Names(d) {
		i := slices.IndexFunc(k.fields, func(f field) bool { return f.dict == key })
		if i < 0 {
			return nil, refuse(zones.InvalidOption, "option '%s' is not valid for a %s", key, k.name)
		}
		f := k.fields[i]
		value, err := decode(f.sig, d[key].(raw))
		if err != nil {
			_, reason := codeOf(err)
			return nil, refuse(zones.InvalidType, "cannot use %s: %s", key, reason)
		}
		settings[f.key] = f.setting(value)
	}
	return settings, nil
}

// toTuple is settings as a structure.
func (k *kind) toTuple(settings zones.Settings) []any {
	tuple := make([]any, len(k.tuple))
	for i, key := range k.tuple {
		if key == unused {
			tuple[i] = false
		} else {
			tuple[i] = fromSetting(k.field(key).sig, settings[key])
		}
	}
	return tuple
}

// fromTuple is the settings in a structure.
func (k *kind) fromTuple(tuple []any) zones.Settings {
	settings := zones.Settings{}
	for i, key := range k.tuple {
		if key != unused {
			settings[key] = k.field(key).setting(tuple[i])
		}
	}
	return settings
}
