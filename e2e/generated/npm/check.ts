// What both clients in TypeScript need.

export const [base, secret, token, topic] = process.argv.slice(2) as [string, string, string, string];

/** Ends the program if an answer is not as it should be. */
export function want(right: boolean, answer: unknown): asserts right {
	if (!right) throw new Error(`the answer is ${JSON.stringify(answer)}`);
}

/** Returns the data of an answer, which must be a success. */
export function ok<T>(answer: { data?: T; error?: unknown; response?: Response }): NonNullable<T> {
	if (answer.data === undefined || answer.data === null) throw new Error(`${answer.response?.status} ${JSON.stringify(answer.error)}`);
	return answer.data;
}
