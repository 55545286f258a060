package lab

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// TransferReport is what rules did to transfers.
type TransferReport struct {
	Rows []TransferRow `json:"rows"`
}

// TransferRow is a transfer before and after.
type TransferRow struct {
	Family    Family         `json:"family"`
	Direction string         `json:"direction"` // download or upload
	Port      int            `json:"port"`      // of the server
	Size      int            `json:"size"`      // in bytes
	Before    TransferResult `json:"before"`
	After     TransferResult `json:"after"`
	Changed   bool           `json:"changed"` // the outcome is another one
}

// CompareTransfers makes the table from the results of the same transfers before and after the rules were loaded.
func CompareTransfers(transfers []Transfer, before, after []TransferResult) TransferReport {
	var r TransferReport
	for i, t := range transfers {
		row := TransferRow{
			Family: t.Family, Direction: "download", Port: t.Port, Size: t.Size,
			Before: before[i], After: after[i], Changed: before[i].Outcome != after[i].Outcome,
		}
		if row.Family == "" {
			row.Family = IPv4
		}
		if t.Upload {
			row.Direction = "upload"
		}
		r.Rows = append(r.Rows, row)
	}
	return r
}

// String is the result for a person to read: "stalls, with packets of 1500 bytes".
func (r TransferResult) String() string {
	if r.Packet == 0 {
		return r.Outcome
	}
	return fmt.Sprintf("%s, with packets of %d bytes", r.Outcome, r.Packet)
}

// Text writes the table. A star marks what changed.
func (r TransferReport) Text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, " \tFAMILY\tTRANSFER\tBEFORE\tAFTER")
	for _, row := range r.Rows {
		mark := " "
		if row.Changed {
			mark = "*"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", mark, row.Family, row.Direction, row.Before, row.After)
	}
	return t.Flush()
}
