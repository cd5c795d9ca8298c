/** What the layout needs to know of the services: their names and who calls whom. */
export interface Graph {
  readonly nodes: readonly string[];
  readonly edges: readonly { readonly from: string; readonly to: string }[];
}

export const edgeKey = (from: string, to: string): string => `${from}>${to}`;
