package bus

import (
	"encoding/xml"
	"strings"

	"github.com/godbus/dbus/v5/introspect"
)

var deprecated = []introspect.Annotation{{Name: "org.freedesktop.DBus.Deprecated", Value: "true"}}

// introspection is the XML that describes an object: its interfaces and the objects below it.
func introspection(path string, interfaces []*iface, children []string) string {
	node := introspect.Node{Name: path}
	if len(interfaces) > 0 {
		node.Interfaces = append(node.Interfaces, introspectable, properties)
	}
	for _, i := range interfaces {
		node.Interfaces = append(node.Interfaces, describe(i))
	}
	for _, child := range children {
		node.Children = append(node.Children, introspect.Node{Name: child})
	}
	text, err := xml.MarshalIndent(node, "", "  ")
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return introspect.IntrospectDeclarationString + asFirewalld.Replace(string(text)) + "\n"
}

// asFirewalld writes elements that have nothing in them as firewalld does, for programs that read the text line by line.
var asFirewalld = strings.NewReplacer("></arg>", " />", "></annotation>", " />", "></property>", " />", "></node>", "/>",
	"></method>", ">\n    </method>", "></signal>", ">\n    </signal>")

// describe is an interface as its table has it.
func describe(i *iface) introspect.Interface {
	d := introspect.Interface{Name: i.fullName()}
	var notes []introspect.Annotation
	if i.deprecated {
		notes = deprecated
	}
	for _, m := range i.methods {
		args := describeArgs(m.in, "in")
		if m.out != "" {
			args = append(args, introspect.Arg{Type: m.out, Direction: "out"})
		}
		d.Methods = append(d.Methods, introspect.Method{Name: m.name, Args: args, Annotations: notes})
	}
	for _, s := range i.signals {
		d.Signals = append(d.Signals, introspect.Signal{Name: s.name, Args: describeArgs(s.args, ""), Annotations: notes})
	}
	for _, p := range i.properties {
		access := "read"
		if p.set != nil || p.fixed {
			access = "readwrite"
		}
		d.Properties = append(d.Properties, introspect.Property{Name: p.name, Type: p.sig, Access: access})
	}
	return d
}

func describeArgs(list []arg, direction string) []introspect.Arg {
	var out []introspect.Arg
	for _, a := range list {
		out = append(out, introspect.Arg{Name: a.name, Type: a.sig, Direction: direction})
	}
	return out
}

// The interfaces that every object has beside its own, as section "Standard Interfaces" of the D-Bus specification has
// them.
var (
	introspectable = introspect.Interface{Name: introspectableName, Methods: []introspect.Method{
		{Name: "Introspect", Args: []introspect.Arg{{Type: "s", Direction: "out"}}},
	}}
	properties = introspect.Interface{Name: propertiesName,
		Methods: []introspect.Method{
			{Name: "Get", Args: append(describeArgs(args("interface_name:s property_name:s"), "in"), introspect.Arg{Type: "v", Direction: "out"})},
			{Name: "GetAll", Args: append(describeArgs(args("interface_name:s"), "in"), introspect.Arg{Type: "a{sv}", Direction: "out"})},
			{Name: "Set", Args: describeArgs(args("interface_name:s property_name:s new_value:v"), "in")},
		},
		Signals: []introspect.Signal{
			{Name: "PropertiesChanged", Args: describeArgs(args("interface_name:s changed_properties:a{sv} invalidated_properties:as"), "")},
		},
	}
)

const (
	introspectableName = "org.freedesktop.DBus.Introspectable"
	propertiesName     = "org.freedesktop.DBus.Properties"
)
