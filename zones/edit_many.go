package zones

import "slices"

// Without is an edit that takes items out of a zone or policy, as Difference names them, as far as they are there: of ports also a part.
// It takes a time that grows with the number of items and with that of those that the object has, and not with their product.
func Without(s Scope, o Object, items []Item) Edit {
	return by(o, func(k kindOps) Edit {
		return func(c *Config) (*Config, error) {
			has, err := k.get(c, s, o.Name)
			if err != nil {
				return nil, err
			}
			changed := Settings{}
			for key, rows := range rowsByKey(items) {
				switch value := has[key].(type) {
				case bool:
					if value {
						changed[key] = false
					}
				case [][]string:
					if common(key, value, rows) {
						changed[key] = missingIn(key, value, rows)
					}
				}
			}
			if len(changed) == 0 {
				return c, nil
			}
			return k.update(s, o.Name, changed)(c)
		}
	})
}

// HasAny tells whether a zone or policy has any of the items, as Difference names them: of ports also a part. It takes the time of Without.
func HasAny(c *Config, s Scope, o Object, items []Item) bool {
	k, err := ops(o.Kind)
	if err != nil {
		return false
	}
	has, err := k.get(c, s, o.Name)
	if err != nil {
		return false
	}
	for key, rows := range rowsByKey(items) {
		list, _ := has[key].([][]string)
		if has[key] == true || common(key, list, rows) {
			return true
		}
	}
	return false
}

func rowsByKey(items []Item) map[Key][][]string {
	rows := map[Key][][]string{}
	for _, i := range items {
		rows[i.Key] = append(rows[i.Key], i.Args)
	}
	return rows
}

// missingIn are the items of one list that another does not have.
func missingIn(key Key, list, others [][]string) [][]string {
	if key == KeyPort || key == KeySourcePort {
		return outside(numbersOf(list), numbersOf(others))
	}
	there := make(map[string]bool, len(others))
	for _, row := range others {
		there[itemKey(row)] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(row []string) bool { return there[itemKey(row)] })
}

// common tells whether two lists have items in common.
func common(key Key, a, b [][]string) bool {
	left := missingIn(key, a, b)
	return len(left) != len(a) || !slices.EqualFunc(left, a, slices.Equal)
}
